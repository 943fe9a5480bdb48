(function () {
  // The machine is none of a function's business: all of this is the same everywhere.
  return {
    EOL: '\n',
    devNull: '/dev/null',
    constants: { signals: {}, errno: {} },
    arch: () => 'x64',
    cpus: () => [],
    endianness: () => 'LE',
    freemem: () => 0,
    homedir: () => '/',
    hostname: () => 'localhost',
    loadavg: () => [0, 0, 0],
    networkInterfaces: () => ({}),
    platform: () => 'linux',
    release: () => '0.0.0',
    tmpdir: () => '/tmp',
    totalmem: () => 0,
    type: () => 'Linux',
    uptime: () => 0,
    userInfo: () => ({ uid: -1, gid: -1, username: '', homedir: '/', shell: null }),
    version: () => '',
  };
})
