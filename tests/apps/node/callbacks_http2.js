// A server of HTTP/2 that calls another one twice for each request, over two connections. The second call is made in a callback of the
// first: at its end, or at the event that AT names. The connections are opened for the first requests. Arguments: port.
const http2 = require('http2');

const sessions = [];
let calls = 0;

function call(path, event, done) {
  const turn = calls++ % 2;
  sessions[turn] ??= http2.connect(process.env.BACKEND_URL);
  const stream = sessions[turn].request({ ':path': path });
  stream.once(event, done);
  stream.resume();
}

const server = http2.createServer((request, response) => {
  const number = request.url.split('/').pop();
  call(`/a/${number}`, process.env.AT ?? 'end', () => call(`/b/${number}`, 'end', () => response.end(`${number}\n`)));
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
