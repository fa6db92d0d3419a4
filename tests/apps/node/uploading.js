// Makes requests, each on a connection of its own. Argument: a URL without a path.

const http = require('http');

const url = process.argv[2];
const own = { Traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };

function send(path, method, headers, parts) {
  return new Promise((resolve, reject) => {
    const request = http.request(url + path, { method, headers, agent: false }, (response) => {
      response.resume();
      response.on('end', resolve);
    });
    request.on('error', reject);
    parts.forEach((part) => request.write(part));
    request.end();
  });
}

async function main() {
  const body = Buffer.from(Array.from({ length: 1 << 20 }, (_, index) => index & 255));
  await send('/get', 'GET', {}, []);
  await send('/post', 'POST', { 'Content-Length': body.length }, [body]);
  await send('/chunked', 'POST', {}, ['one', 'two'.repeat(1000), 'three']);
  await send('/own', 'GET', own, []);
}

main();
