// Calls another service twice for each request, over fewer connections than there are requests in flight. It uses no
// promises: the second call is made in a callback of the first.

const http = require('node:http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });

function call(path, failed, done) {
  http.get(process.env.BACKEND_URL + path, { agent }, (backendResponse) => {
    backendResponse.resume();
    backendResponse.on('end', done);
  }).on('error', failed);
}

const server = http.createServer((request, response) => {
  const number = request.url.split('/').pop();
  const failed = (error) => {
    response.statusCode = 502;
    response.end(`${error}\n`);
  };
  call(`/a/${number}`, failed, () => call(`/b/${number}`, failed, () => response.end(`${number}\n`)));
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
