// Calls another service twice for each request, over fewer connections than there are requests in flight.

const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });

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
    await call(`/b/${number}`);
    response.end(`${number}\n`);
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error}\n`);
  }
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
