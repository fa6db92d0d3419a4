// Calls another service every 50 ms in the background, and once for each of its own requests, which last 40 ms.

const http = require('http');

const agent = new http.Agent({ keepAlive: true });

function call(path) {
  return new Promise((resolve, reject) => {
    http.get(process.env.BACKEND_URL + path, { agent }, (response) => {
      response.resume();
      response.on('end', resolve);
    }).on('error', reject);
  });
}

function beat() {
  call('/beat').then(() => setTimeout(beat, 50));
}

const server = http.createServer(async (request, response) => {
  await call(`/a/${request.url.split('/').pop()}`);
  setTimeout(() => response.end('served\n'), 40);
});
server.keepAliveTimeout = 60_000;
beat();
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
