// Answers every third request, and refuses the others.

const http = require('http');

let received = 0;
http.createServer((request, response) => {
  received++;
  response.statusCode = received % 3 === 0 ? 200 : 503;
  response.end('answer\n');
}).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
