(function () {
  const string = (value) => {
    if (typeof value === 'string') return value;
    throw new TypeError('A path must be a string');
  };

  // The names on the way, with what `.` and `..` mean resolved.
  const names = (path, absolute) => {
    const kept = [];
    for (const name of path.split('/')) {
      if (name === '' || name === '.') continue;
      if (name !== '..') kept.push(name);
      else if (kept.length > 0 && kept.at(-1) !== '..') kept.pop();
      else if (!absolute) kept.push(name);
    }
    return kept;
  };

  const isAbsolute = (path) => string(path).startsWith('/');

  const normalize = (path) => {
    const absolute = isAbsolute(path);
    const clean = names(path, absolute).join('/');
    if (clean === '') return absolute ? '/' : path.endsWith('/') ? './' : '.';
    return (absolute ? '/' : '') + clean + (path.endsWith('/') ? '/' : '');
  };

  const join = (...paths) => {
    const joined = paths.map(string).filter((path) => path !== '').join('/');
    return joined === '' ? '.' : normalize(joined);
  };

  const resolve = (...paths) => {
    let resolved = '';
    for (const path of paths.map(string).reverse()) {
      if (path === '') continue;
      resolved = resolved === '' ? path : `${path}/${resolved}`;
      if (path.startsWith('/')) break;
    }
    return `/${names(resolved, true).join('/')}`;
  };

  const relative = (from, to) => {
    const [start, end] = [from, to].map((path) => names(resolve(path), true));
    let shared = 0;
    while (shared < start.length && start[shared] === end[shared]) shared++;
    return [...start.slice(shared).fill('..'), ...end.slice(shared)].join('/');
  };

  const trimmed = (path) => string(path).replace(/(?<=[^/])\/+$/, '');

  const dirname = (path) => {
    const whole = trimmed(path);
    const at = whole.lastIndexOf('/');
    if (at === -1) return '.';
    return whole.slice(0, at) || '/';
  };

  const basename = (path, extension = '') => {
    const whole = trimmed(path);
    const name = whole.slice(whole.lastIndexOf('/') + 1);
    return name !== extension && name.endsWith(extension) ? name.slice(0, name.length - extension.length) : name;
  };

  const extname = (path) => {
    const name = basename(path);
    const at = name.lastIndexOf('.');
    return at <= 0 || name === '..' ? '' : name.slice(at);
  };

  const parse = (path) => {
    const root = isAbsolute(path) ? '/' : '';
    const base = basename(path);
    const ext = extname(path);
    const dir = trimmed(path).includes('/') ? dirname(path) : '';
    return { root, dir, base, ext, name: base.slice(0, base.length - ext.length) };
  };

  const format = (parts) => {
    const dir = parts.dir || parts.root || '';
    const base = parts.base || `${parts.name ?? ''}${parts.ext ?? ''}`;
    if (dir === '') return base;
    return dir === parts.root ? dir + base : `${dir}/${base}`;
  };

  const path = {
    sep: '/',
    delimiter: ':',
    isAbsolute,
    normalize,
    join,
    resolve,
    relative,
    dirname,
    basename,
    extname,
    parse,
    format,
  };
  path.posix = path;
  return path;
})
