// What a test asks of Parallax's clients, a line of JSON each: {"id", "ask": [name, ...arguments]} in, {"id", "answer" | "error"} out, and
// {"event", ...} for what comes by itself. The way that each client is called is Parallax's (docs/parallax.md, docs/registry.md).
'use strict';
const dns = require('node:dns');
const fs = require('node:fs');
const readline = require('node:readline');
const { Etcd3 } = require('etcd3');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const WebSocket = require('ws');

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

// Names below this domain lead to the loopback, as a name server of the site's would say.
const domain = process.env.STOCKADE_TEST_DOMAIN;
const { lookup } = dns.promises;
dns.promises.lookup = async (host, options) =>
  domain && host.endsWith(`.${domain}`) ? (options.all ? [{ address: '127.0.0.1', family: 4 }] : { address: '127.0.0.1', family: 4 }) : lookup(host, options);

const settings = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const agent = grpc.loadPackageDefinition(loader.loadSync(process.env.STOCKADE_TEST_PROTO, settings)).parallax.confidence.ConfidenceAgent;
const etcds = new Map();
const agents = new Map();
const sockets = new Map();

const etcd = (host) => etcds.get(host) ?? etcds.set(host, new Etcd3({ hosts: [host] })).get(host);

function client(endpoint, pki) {
  const read = (name) => fs.readFileSync(`${pki}/${name}`);
  const credentials = pki ? grpc.credentials.createSsl(read('ca.crt'), read('parallax.key'), read('parallax.crt')) : grpc.credentials.createInsecure();
  const key = `${endpoint} ${pki}`;
  return agents.get(key) ?? agents.set(key, new agent(endpoint, credentials)).get(key);
}

const does = {
  async list(host, prefix) {
    return Object.values(await etcd(host).getAll().prefix(prefix)).map((value) => JSON.parse(value));
  },
  async get(host, key) {
    const value = await etcd(host).get(key);
    return value === null ? null : JSON.parse(value);
  },
  async delete(host, key) {
    await etcd(host).delete().key(key);
  },
  // As when the control plane renews an entry: under a lease of its own.
  async rewrite(host, key, ttl) {
    const value = JSON.parse(await etcd(host).get(key));
    value.health = { status: 'unhealthy', lastCheck: new Date(), checkInterval: 30000 };
    await etcd(host).lease(ttl).put(key).value(JSON.stringify(value));
  },
  async watch(host, prefix) {
    const watcher = await etcd(host).watch().prefix(prefix).create();
    watcher.on('put', (kv) => say({ event: 'put', id: JSON.parse(kv.value.toString()).id }));
    watcher.on('delete', (kv) => say({ event: 'delete', id: kv.key.toString().split('/').pop() }));
  },
  call(endpoint, pki, method, request) {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + 30000 };
      client(endpoint, pki)[method](request, options, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  },
  stream(endpoint, pki, request) {
    return new Promise((resolve, reject) => {
      const results = [];
      const stream = client(endpoint, pki).streamAnalyze(request, { deadline: Date.now() + 30000 });
      stream.on('data', (result) => results.push(result)).on('error', reject).on('end', () => resolve(results));
    });
  },
  async http(method, url, body) {
    const answer = await fetch(url, { method, headers: { 'Content-Type': 'application/json' }, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30000) });
    return { status: answer.status, body: answer.status === 204 ? null : await answer.json() };
  },
  open(name, url) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      sockets.set(name, socket);
      socket.on('open', () => resolve()).on('error', reject);
      socket.on('message', (data, binary) => say({ event: 'message', name, binary, text: data.toString() }));
      socket.on('close', (code) => say({ event: 'close', name, code }));
    });
  },
  async send(name, text) {
    sockets.get(name).send(text);
  },
};

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, ask } = JSON.parse(line);
  try {
    say({ id, answer: (await does[ask[0]](...ask.slice(1))) ?? null });
  } catch (error) {
    say({ id, error: `${error.code ?? ''} ${error.message}` });
  }
}).on('close', () => process.exit(0));
