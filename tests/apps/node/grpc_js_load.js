// Makes unary calls of `shop.Cart/Get` by grpc-js. Arguments: URL, how many, how many at once, over how many connections. Prints how
// many nanoseconds each took.
const grpc = require('@grpc/grpc-js');

const [, , url, ...numbers] = process.argv;
const [requests, streams, connections] = numbers.map(Number);
const bytes = (message) => message;
// Channels to the same address share a connection otherwise.
const options = { 'grpc.use_local_subchannel_pool': 1 };
let next = 0;
let left = requests;
const took = [];

// Makes the next call, and one more when it has ended.
function call(client) {
  if (next === requests) return;
  const message = Buffer.from(String(next++));
  const begin = process.hrtime.bigint();
  client.makeUnaryRequest('/shop.Cart/Get', bytes, bytes, message, (error) => {
    took.push(process.hrtime.bigint() - begin);
    if (error) throw error;
    left -= 1;
    if (left > 0) return call(client);
    console.log(took.join('\n'));
    clients.forEach((each) => each.close());
  });
}

const address = new URL(url).host;
const clients = Array.from({ length: connections }, () => new grpc.Client(address, grpc.credentials.createInsecure(), options));
for (const client of clients) {
  for (let stream = 0; stream < streams / connections; stream++) call(client);
}
