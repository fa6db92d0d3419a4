// An Express application that calls another service, a database, and the other service again, over at most 10 connections
// to each.

const express = require('express');
const pg = require('pg');
const undici = require('undici');

const backend = new undici.Pool(process.env.BACKEND_URL, { connections: 10 });
const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });

async function call(path) {
  const { body } = await backend.request({ path, method: 'GET' });
  await body.text();
}

const app = express();
app.get('/r/:number', async (request, response) => {
  const { number } = request.params;
  await call(`/a/${number}`);
  await database.query(`SELECT 1 AS r${number}`);
  await call(`/b/${number}`);
  response.end(`${number}\n`);
});
const server = app.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
server.keepAliveTimeout = 60_000;
