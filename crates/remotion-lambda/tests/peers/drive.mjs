// Makes every call of a file with the client for JavaScript, and writes what came of it.
// node drive.mjs CASES OUT; a case is {key, call, options}, and `key` is the id of the credentials it is signed with.
import { readFileSync, writeFileSync } from 'node:fs';

// One client a case: they are told apart by their credentials.
process.env.AWS_SECRET_ACCESS_KEY = 'secret';
// It looks at the bucket's own address too, which is not on this machine.
const fetch = globalThis.fetch;
globalThis.fetch = (url, ...rest) =>
  String(url).startsWith('http://127.0.0.1') ? fetch(url, ...rest) : Promise.reject(new Error('not on this machine'));
for (const say of ['log', 'warn', 'error']) console[say] = () => {};

const client = await import('@remotion/lambda-client');

const revive = (value) => {
  if (Array.isArray(value)) return value.map(revive);
  if (value === null || typeof value !== 'object') return value;
  if ('$date' in value) return new Date(value.$date);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revive(inner)]));
};

const made = [];
for (const { key, call, options } of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  process.env.AWS_ACCESS_KEY_ID = key;
  try {
    const inits = [];
    const given = { region: 'us-east-1', ...revive(options) };
    if (call === 'renderStillOnLambda') given.onInit = (init) => inits.push(init);
    const result = await client[call](given);
    made.push({ result: call === 'renderStillOnLambda' ? { result, inits } : (result ?? null) });
  } catch (error) {
    made.push({ error: error.message, stack: error.stack });
  }
}
writeFileSync(process.argv[3], JSON.stringify(made));
