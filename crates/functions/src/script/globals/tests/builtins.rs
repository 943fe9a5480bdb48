use super::run;

#[test]
fn values_are_shown_as_node_shows_them() {
    run(r#"
const { inspect, format } = require('util');
const circular = { a: 1 };
circular.self = circular;
class Point { constructor() { this.x = 1; } }
for (const [value, shown] of [
  [{ a: { b: { c: { d: 1 } } } }, '{\n  a: { b: { c: [Object] } }\n}'],
  [[1, , 3, 'x'], "[ 1, <1 empty item>, 3, 'x' ]"],
  [new Map([[1, { a: 2 }]]), 'Map(1) { 1 => { a: 2 } }'],
  [new Set(), 'Set(0) {}'],
  [new Point(), 'Point { x: 1 }'],
  [Object.create(null), '[Object: null prototype] {}'],
  [circular, '<ref *1> { a: 1, self: [Circular *1] }'],
  [Buffer.from('hi'), '<Buffer 68 69>'],
  [new Date(0), '1970-01-01T00:00:00.000Z'],
  ["it's", '"it\'s"'],
  [{ get a() { return 1; } }, '{ a: [Getter] }'],
  [-0, '-0'],
  [10n, '10n'],
  [() => 1, '[Function (anonymous)]'],
]) {
  same(inspect(value).replace(/\s+/g, ' '), shown.replace(/\s+/g, ' '));
}
same(inspect({ a: { b: {} } }, { depth: 0 }), '{ a: [Object] }');
same(inspect({ [Symbol.for('nodejs.util.inspect.custom')]: () => 'mine' }), 'mine');
same(format('%s is %d%% of %j', 'a', '42', { b: 1 }, 'more'), 'a is 42% of {"b":1} more');
same(format('%s', { a: { b: 1 } }), '{ a: [Object] }');
same(format(1, 'a', [2]), '1 a [ 2 ]');
same(inspect(new TypeError('bad')).startsWith('TypeError: bad'), true);
"#);
}

#[test]
fn callbacks_and_promises_are_turned_into_each_other() {
    run(r"
const util = require('util');
const half = (value, done) => (value % 2 ? done(new Error('odd')) : done(null, value / 2));
same(await util.promisify(half)(4), 2);
same(await util.promisify(half)(3).catch((error) => error.message), 'odd');
const back = util.callbackify(async (value) => value + 1);
same(await new Promise((resolve) => back(1, (error, value) => resolve([error, value]))), [null, 2]);
function Old() {}
function Base() {}
Base.prototype.hi = () => 'hi';
util.inherits(Old, Base);
same([new Old().hi(), Old.super_ === Base], ['hi', true]);
same([util.types.isDate(new Date()), util.types.isMap({}), util.types.isTypedArray(Buffer.alloc(1))], [true, false, true]);
same(util.types.isAsyncFunction(async () => 1), true);
same([util.isDeepStrictEqual({ a: [1] }, { a: [1] }), util.isDeepStrictEqual([1], ['1'])], [true, false]);
");
}

#[test]
fn assertions_hold_or_throw() {
    run(r"
const assert = require('assert');
const holds = (...checks) => checks.forEach((check) => check());
const fails = (...checks) => checks.forEach((check) => refused(check, 'AssertionError', ''));
const cycle = () => { const value = { a: 1 }; value.self = value; return value; };
holds(
  () => assert(1),
  () => assert.equal(1, '1'),
  () => assert.deepEqual({ a: [1] }, { a: ['1'] }),
  () => assert.deepStrictEqual(new Map([[{ a: 1 }, 1]]), new Map([[{ a: 1 }, 1]])),
  () => assert.deepStrictEqual(cycle(), cycle()),
  () => assert.throws(() => { throw new TypeError('bad'); }, TypeError),
  () => assert.throws(() => { throw new TypeError('bad'); }, /bad/),
  () => assert.throws(() => { throw new TypeError('bad'); }, { message: 'bad' }),
  () => assert.notStrictEqual(1, '1'),
  () => assert.doesNotThrow(() => 1),
  () => assert.ifError(null),
);
fails(
  () => assert(0),
  () => assert.ok(''),
  () => assert.equal(1, 2),
  () => assert.strictEqual(1, '1'),
  () => assert.strict.equal(1, '1'),
  () => assert.deepEqual({ a: 1 }, { a: 1, b: 2 }),
  () => assert.deepStrictEqual({ a: 1 }, { a: '1' }),
  () => assert.deepStrictEqual(new Date(0), new Date(1)),
  () => assert.deepStrictEqual(Buffer.from('a'), Buffer.from('b')),
  () => assert.deepStrictEqual(new Set([1]), new Set([2])),
  () => assert.deepStrictEqual([1, , 2], [1, undefined, 2]),
  () => assert.notDeepStrictEqual([1], [1]),
  () => assert.throws(() => 1),
  () => assert.throws(() => { throw new Error('bad'); }, /good/),
  () => assert.fail(),
);
refused(() => assert.throws(() => { throw new RangeError('bad'); }, TypeError), 'RangeError', 'bad');
refused(() => assert.equal(1, 2, new TypeError('mine')), 'TypeError', 'mine');
same(refused(() => assert.strictEqual(1, 2), 'AssertionError', '1 strictEqual 2').code, 'ERR_ASSERTION');
await assert.rejects(Promise.reject(new Error('no')), /no/);
await assert.rejects(async () => { throw new TypeError('no'); }, TypeError);
const missing = await assert.rejects(Promise.resolve()).catch((error) => error);
same([missing.name, missing.message], ['AssertionError', 'The promise was not rejected']);
");
}

#[test]
fn events_reach_their_listeners_in_order() {
    run(r"
const EventEmitter = require('events');
same(EventEmitter.EventEmitter === EventEmitter, true);
class Mine extends EventEmitter {}
const emitter = new Mine();
const seen = [];
const listener = function (value) { seen.push(['on', value, this === emitter]); };
emitter.on('a', listener).once('a', (value) => seen.push(['once', value]));
emitter.prependListener('a', () => seen.push(['first']));
same([emitter.emit('a', 1), emitter.emit('a', 2), emitter.emit('b')], [true, true, false]);
same(seen, [['first'], ['on', 1, true], ['once', 1], ['first'], ['on', 2, true]]);
same(emitter.listenerCount('a'), 2);
emitter.off('a', listener);
same(emitter.listenerCount('a'), 1);
emitter.removeAllListeners();
same(emitter.eventNames(), []);
refused(() => emitter.emit('error', new RangeError('far')), 'RangeError', 'far');
refused(() => emitter.emit('error', 'text'), 'Error', 'text');
refused(() => emitter.on('a', 5), 'TypeError', 'function');
const waited = EventEmitter.once(emitter, 'done');
emitter.emit('done', 1, 2);
same(await waited, [1, 2]);
function Old() { EventEmitter.call(this); }
require('util').inherits(Old, EventEmitter);
const old = new Old();
old.on('x', () => seen.push('old'));
old.emit('x');
same(seen.at(-1), 'old');
");
}

#[test]
fn paths_are_taken_apart_and_joined() {
    run(r"
const path = require('path');
same(path.join('/a', '..', 'b', './c.txt'), '/b/c.txt');
same(path.normalize('a//b/../c/'), 'a/c/');
same(path.normalize(''), '.');
same(path.resolve('x', '/y', '../z'), '/z');
same(path.relative('/a/b/c', '/a/d'), '../../d');
same([path.dirname('/a/b/'), path.dirname('a'), path.dirname('/a')], ['/a', '.', '/']);
same([path.basename('/a/b.js', '.js'), path.extname('b.tar.gz'), path.extname('.rc')], ['b', '.gz', '']);
same(path.parse('/home/u/f.txt'), { root: '/', dir: '/home/u', base: 'f.txt', ext: '.txt', name: 'f' });
same(path.format({ dir: '/a', name: 'b', ext: '.c' }), '/a/b.c');
same([path.isAbsolute('/a'), path.isAbsolute('a'), path.posix === path], [true, false, true]);
refused(() => path.join(5), 'TypeError', 'string');
");
}

#[test]
fn queries_are_parsed_and_written() {
    run(r"
const querystring = require('querystring');
same({ ...querystring.parse('a=1&b=x+y&a=%C3%BC&c&=d') }, { a: ['1', 'ü'], b: 'x y', c: '', '': 'd' });
same(querystring.parse('toString=1').toString, '1');
same({ ...querystring.parse('a:1;b:2', ';', ':') }, { a: '1', b: '2' });
same({ ...querystring.parse('a=1&b=2', null, null, { maxKeys: 1 }) }, { a: '1' });
same(querystring.stringify({ a: [1, true], b: 'ü &', c: null, d: NaN }), 'a=1&a=true&b=%C3%BC%20%26&c=&d=');
same([querystring.escape('a b'), querystring.unescape('%41%ff%42%')], ['a%20b', 'A\ufffdB%']);
");
}

#[test]
fn addresses_are_parsed_in_the_old_way() {
    run(r"
const url = require('url');
same(url.URL === URL && url.URLSearchParams === URLSearchParams, true);
const parsed = url.parse('http://user:p%20a@Host.com:8080/p/a?q=1&r=2#h', true);
same([parsed.protocol, parsed.auth, parsed.host, parsed.port], ['http:', 'user:p a', 'host.com:8080', '8080']);
same([parsed.pathname, parsed.search, parsed.path, parsed.hash], ['/p/a', '?q=1&r=2', '/p/a?q=1&r=2', '#h']);
same({ ...parsed.query }, { q: '1', r: '2' });
same(url.format(parsed), 'http://user:p%20a@host.com:8080/p/a?q=1&r=2#h');
same(url.parse('/a?b').host, null);
same(url.format({ protocol: 'https', hostname: '::1', port: 3, pathname: 'x', query: { a: 'ü' } }), 'https://[::1]:3/x?a=%C3%BC');
same(url.resolve('http://h/a/b', '../c'), 'http://h/c');
same(url.resolve('/one/two', 'three'), '/one/three');
same(url.domainToASCII('bücher.example'), 'xn--bcher-kva.example');
");
}

#[test]
fn a_string_decoder_keeps_what_is_unfinished() {
    run(r"
const { StringDecoder } = require('string_decoder');
const decoder = new StringDecoder();
same([decoder.write(Buffer.from([0xe2, 0x82])), decoder.write(Buffer.from([0xac, 0xc3])), decoder.end()], ['', '€', '\ufffd']);
const base64 = new StringDecoder('base64');
same(base64.write(Buffer.from('ab')) + base64.write(Buffer.from('cd')) + base64.end(), Buffer.from('abcd').toString('base64'));
const utf16 = new StringDecoder('utf16le');
same(utf16.write(Buffer.from([0x3d, 0xd8, 0x00])) + utf16.end(Buffer.from([0xde])), '😀');
refused(() => new StringDecoder('rot13'), 'TypeError', 'rot13');
");
}

#[test]
fn the_process_calls_back_after_what_runs_now() {
    run(r"
const seen = [];
process.nextTick((value) => seen.push(value), 'later');
seen.push('now');
await null;
same(seen, ['now', 'later']);
const start = process.hrtime();
const since = process.hrtime(start);
same(since[0] >= 0 && since[1] >= 0 && since[1] < 1e9, true);
same(typeof process.hrtime.bigint(), 'bigint');
refused(() => process.nextTick(5), 'TypeError', 'function');
same(require('process') === process, true);
");
}
