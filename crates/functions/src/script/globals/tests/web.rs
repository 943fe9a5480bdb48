use super::run;

#[test]
fn an_address_has_its_parts() {
    run(r"
const url = new URL('../c?x=1&y=ü#top', 'HTTPS://user:p%40ss@Bücher.example:8443/a/b/');
same(url.href, 'https://user:p%40ss@xn--bcher-kva.example:8443/a/c?x=1&y=%C3%BC#top');
same([url.protocol, url.username, url.password], ['https:', 'user', 'p%40ss']);
same([url.host, url.hostname, url.port], ['xn--bcher-kva.example:8443', 'xn--bcher-kva.example', '8443']);
same([url.pathname, url.search, url.hash], ['/a/c', '?x=1&y=%C3%BC', '#top']);
same(url.origin, 'https://xn--bcher-kva.example:8443');
same(JSON.stringify({ url }), JSON.stringify({ url: url.href }));
same(new URL('http://h:80/').port, '');
same(new URL('data:text/plain,a').origin, 'null');
same([URL.canParse('/x'), URL.canParse('/x', 'http://h')], [false, true]);
same(URL.parse('x'), null);
");
}

#[test]
fn the_parts_of_an_address_can_be_set() {
    run(r"
const url = new URL('http://a.example/p');
url.port = '8080';
url.pathname = 'x y';
url.hash = 'z';
url.hostname = 'B.example';
same(url.href, 'http://b.example:8080/x%20y#z');
url.port = 'none';
url.protocol = 'mailto';
same(url.href, 'http://b.example:8080/x%20y#z');
refused(() => { url.href = 'nothing'; }, 'TypeError', 'no address');
refused(() => { 'use strict'; url.origin = 'x'; }, 'TypeError', '');
");
}

#[test]
fn an_address_that_is_none_is_refused_without_being_told() {
    run(r"
const error = refused(() => new URL('http://user:secret@['), 'TypeError', 'Invalid URL');
same(error.message.includes('secret'), false);
same(error.code, 'ERR_INVALID_URL');
");
}

#[test]
fn parameters_and_their_address_change_together() {
    run(r"
const url = new URL('http://h/?a=1&b=2&a=3');
const params = url.searchParams;
same(params.getAll('a'), ['1', '3']);
params.append('c', 'x y&ü');
same(url.search, '?a=1&b=2&a=3&c=x+y%26%C3%BC');
params.set('a', '9');
params.delete('b');
same(url.href, 'http://h/?a=9&c=x+y%26%C3%BC');
url.search = '?k=v';
same([...params], [['k', 'v']]);
params.delete('k');
same(url.href, 'http://h/');
");
}

#[test]
fn parameters_are_made_from_many_things() {
    run(r"
same(new URLSearchParams('?a=1&b').toString(), 'a=1&b=');
same(new URLSearchParams({ a: 1, b: 'x y' }).toString(), 'a=1&b=x+y');
same(new URLSearchParams([['b', '2'], ['a', '1']]).toString(), 'b=2&a=1');
same(new URLSearchParams(new Map([['a', 1]])).get('a'), '1');
const params = new URLSearchParams('b=1&a=2&b=0');
params.sort();
same(params.toString(), 'a=2&b=1&b=0');
same([params.size, params.has('b', '0'), params.has('b', '7'), params.get('z')], [3, true, false, null]);
params.delete('b', '1');
same([...params.keys(), ...params.values()], ['a', 'b', '2', '0']);
const seen = [];
params.forEach((value, name) => seen.push(name + value));
same(seen, ['a2', 'b0']);
same(new URLSearchParams('a=%ff\ud800').get('a'), '\ufffd\ufffd');
refused(() => new URLSearchParams([['a']]), 'TypeError', 'pair');
");
}

#[test]
fn a_clone_keeps_what_refers_to_itself() {
    run(r"
const original = { list: [1, { a: 2 }], when: new Date(5), found: /x/gi };
original.self = original;
original.map = new Map([[original, new Set([original.list])]]);
const copy = structuredClone(original);
same(copy !== original && copy.self === copy, true);
same(copy.list !== original.list && copy.map.get(copy).has(copy.list), true);
same([copy.when.getTime(), String(copy.found)], [5, '/x/gi']);
const cycle = [];
cycle.push(cycle);
same(structuredClone(cycle)[0][0].length, 1);
");
}

#[test]
fn views_of_one_buffer_are_cloned_onto_one_buffer() {
    run(r"
const bytes = new Uint8Array([1, 2, 3, 4]);
const copy = structuredClone({ all: bytes, part: bytes.subarray(1, 3), words: new Uint16Array(bytes.buffer) });
same(copy.all.buffer === copy.part.buffer && copy.part.buffer === copy.words.buffer, true);
copy.part[0] = 9;
same([...copy.all, ...bytes], [1, 9, 3, 4, 1, 2, 3, 4]);
same(structuredClone(Buffer.from('a')).constructor.name, 'Uint8Array');
const moved = new ArrayBuffer(3);
same(structuredClone(moved, { transfer: [moved] }).byteLength, 3);
same(moved.byteLength, 0);
");
}

#[test]
fn errors_are_cloned_and_functions_are_not() {
    run(r"
const error = structuredClone(new RangeError('far', { cause: { a: 1 } }));
same([error instanceof RangeError, error.message, error.cause.a], [true, 'far', 1]);
for (const value of [() => 1, Symbol('s'), { deep: [() => 1] }, Promise.resolve(), new WeakMap()]) {
  refused(() => structuredClone(value), 'DataCloneError', 'cannot be cloned');
}
refused(() => structuredClone(), 'TypeError', 'needs a value');
const odd = structuredClone(JSON.parse('{\x22__proto__\x22: {\x22a\x22: 1}}'));
same([Object.getPrototypeOf(odd) === Object.prototype, Object.keys(odd)], [true, ['__proto__']]);
same(structuredClone([1, , 3]).length, 3);
");
}

#[test]
fn random_values_fill_arrays_of_integers() {
    run(r"
const drawn = crypto.getRandomValues(new Uint32Array(64));
same(new Set(drawn).size > 32, true);
const part = new Uint8Array(300);
crypto.getRandomValues(part.subarray(100, 200));
same([part.subarray(0, 100), part.subarray(200)].every((rest) => rest.every((byte) => byte === 0)), true);
same(part.subarray(100, 200).some((byte) => byte !== 0), true);
same(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()), true);
same(crypto.randomUUID() === crypto.randomUUID(), false);
refused(() => crypto.getRandomValues(new Uint8Array(65537)), 'QuotaExceededError', '65536');
refused(() => crypto.getRandomValues(new Float64Array(1)), 'TypeMismatchError', 'integers');
refused(() => crypto.getRandomValues([1]), 'TypeMismatchError', 'integers');
");
}

#[test]
fn a_digest_of_the_web_is_promised() {
    run(r"
const data = new TextEncoder().encode('hello!');
const digest = await crypto.subtle.digest('SHA-256', data);
same(digest instanceof ArrayBuffer, true);
same(Buffer.from(digest).toString('base64'), 'zgYJL7lI2f+sfRo3bkBLJrdXW8wR7gWkYV/vT+w6MIs=');
same((await crypto.subtle.digest({ name: 'sha-512' }, data.buffer)).byteLength, 64);
const refusal = await crypto.subtle.digest('MD5', data).catch((error) => error);
same([refusal.name, refusal.message.includes('known are SHA-1')], ['NotSupportedError', true]);
");
}
