// Sends numbered requests over TLS, and prints the client's port of each. The arguments are those of tests/apps/python/tls_client.py; the
// kinds are https, fetch (undici) and pg (node-postgres). A response says which port was used.
const fs = require("fs");
const https = require("https");

const [, kind, server, count, inFlight, keep, go, , warm] = process.argv.slice(2);
const url = (number) => `https://localhost:${server}/r/${number}`;
const agent = new https.Agent({ keepAlive: keep === "keep", maxSockets: Number(inFlight) });

function withHttps(number) {
  return new Promise((resolve, reject) => {
    const request = https.get(url(number), { agent }, (response) => {
      let body = "";
      response.on("data", (part) => (body += part));
      response.on("end", () => resolve(body));
    });
    request.on("error", reject);
  });
}

async function withFetch(number) {
  const response = await fetch(url(number), { headers: keep === "keep" ? {} : { connection: "close" } });
  return response.text();
}

// One connection per worker.
const idle = [];

async function withPostgres(number) {
  const { Client } = require("pg");
  let client = idle.pop();
  if (!client) {
    const ssl = { rejectUnauthorized: false };
    client = new Client({ host: "127.0.0.1", port: Number(server), user: "postgres", database: "postgres", ssl });
    await client.connect();
  }
  const socket = client.connection.stream;
  // With TLS, the socket is below another one.
  const port = (socket._parent ?? socket).localPort;
  await client.query(`SELECT 1 AS r${number}`);
  if (keep === "keep") idle.push(client);
  else await client.end();
  return port;
}

async function port(number) {
  if (kind === "pg") return withPostgres(number);
  const body = await (kind === "https" ? withHttps(number) : withFetch(number));
  return Number(body.split(" ")[1]);
}

async function main() {
  const workers = (work) => Promise.all(Array.from({ length: Number(inFlight) }, work));
  if (warm === "warm") await workers(() => port(1_000_000));
  console.log("listening");
  while (!fs.existsSync(go)) await new Promise((resolve) => setTimeout(resolve, 5));
  const done = [];
  let next = 0;
  await workers(async () => {
    while (next < Number(count)) {
      const number = next++;
      const began = Date.now() * 1e6;
      done.push([number, await port(number), began, Date.now() * 1e6]);
    }
  });
  console.log("done", JSON.stringify(done));
  setTimeout(() => {}, 3_600_000);
}

main();
