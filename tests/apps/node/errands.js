// Asks another service twice on behalf of each request, over fewer connections than there are requests in flight.

const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });

function ask(path) {
  return new Promise((resolve, reject) => {
    http.get(process.env.ELSEWHERE_URL + path, { agent }, (answer) => {
      answer.resume();
      answer.on('end', resolve);
      answer.on('error', reject);
    }).on('error', reject);
  });
}

const server = http.createServer(async (request, response) => {
  const number = request.url.split('/').pop();
  try {
    await ask(`/a/${number}`);
    await ask(`/b/${number}`);
    response.end(`${number}\n`);
  } catch (error) {
    response.statusCode = 502;
    response.end(`${error}\n`);
  }
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
