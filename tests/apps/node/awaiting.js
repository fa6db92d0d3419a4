// Calls another service three times for each request, over fewer connections than there are requests in flight. In between
// it waits for something other than a socket: a timer, a file, another thread, a name, or the end of the event loop's tick.

const crypto = require('node:crypto');
const dns = require('node:dns/promises');
const fs = require('node:fs/promises');
const http = require('node:http');
const timers = require('node:timers/promises');
const { promisify } = require('node:util');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });
const pbkdf2 = promisify(crypto.pbkdf2);
const MAX_DELAY_MS = 5;
const waits = [
  () => timers.setTimeout(Math.random() * MAX_DELAY_MS),
  () => fs.readFile(__filename),
  () => pbkdf2('password', 'salt', 100, 32, 'sha256'),
  () => dns.lookup('localhost'),
  () => timers.setImmediate(),
];

function call(path) {
  return new Promise((resolve, reject) => {
    http.get(process.env.BACKEND_URL + path, { agent }, (backendResponse) => {
      backendResponse.resume();
      backendResponse.on('end', resolve);
      backendResponse.on('error', reject);
    }).on('error', reject);
  });
}

const server = http.createServer(async (request, response) => {
  const number = request.url.split('/').pop();
  try {
    await call(`/a/${number}`);
    await waits[number % waits.length]();
    await call(`/b/${number}`);
    await waits[(3 * number + 1) % waits.length]();
    await call(`/c/${number}`);
    response.end(`${number}\n`);
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error}\n`);
  }
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
