// Sends requests over HTTP/2 in clear text: GETs of /items/N, or unary calls of `shop.Cart/Get` if GRPC is set. Arguments: URL, how
// many, how many at once, over how many connections. Prints how many nanoseconds each took.
const http2 = require('http2');

const [, , url, ...numbers] = process.argv;
const [requests, streams, connections] = numbers.map(Number);
const message = Buffer.from([0, 0, 0, 0, 2, 105, 100]);
let next = 0;
let left = requests;
const took = [];

// Sends the next request, and one more when it has ended.
function send(session) {
  if (next === requests) return;
  const number = next++;
  const begin = process.hrtime.bigint();
  const headers = process.env.GRPC
    ? { ':method': 'POST', ':path': '/shop.Cart/Get', 'content-type': 'application/grpc', te: 'trailers' }
    : { ':path': `/items/${number}` };
  const stream = session.request(headers, { endStream: !process.env.GRPC });
  let status;
  stream.on('response', (response) => { status = response[':status'] === 200 && (response['grpc-status'] ?? '0'); });
  stream.on('trailers', (trailers) => { status = trailers['grpc-status'] ?? status; });
  stream.on('end', () => {
    took.push(process.hrtime.bigint() - begin);
    if (status !== '0') throw new Error(`status ${status}`);
    left -= 1;
    if (left > 0) return send(session);
    console.log(took.join('\n'));
    sessions.forEach((each) => each.close());
  });
  stream.resume();
  if (process.env.GRPC) stream.end(message);
}

const sessions = Array.from({ length: connections }, () => http2.connect(url));
for (const session of sessions) {
  for (let stream = 0; stream < streams / connections; stream++) send(session);
}
