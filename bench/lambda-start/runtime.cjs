// What Lambda's own runtime for Node does, as far as it takes time: it loads the handler and asks for events, one after
// another. Lighter than the real one, which is in the handlers' favour.
const http = require("node:http");

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const ask = (method, path, body) =>
  new Promise((resolve, reject) => {
    const request = http.request({ host, port, agent, method, path: `/2018-06-01/runtime/${path}` }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(parts).toString() }));
    });
    request.on("error", reject);
    request.end(body);
  });

const { handler } = require(process.env._HANDLER);
(async () => {
  for (;;) {
    const event = await ask("GET", "invocation/next");
    const id = event.headers["lambda-runtime-aws-request-id"];
    try {
      await ask("POST", `invocation/${id}/response`, JSON.stringify(await handler(JSON.parse(event.body))));
    } catch (error) {
      await ask("POST", `invocation/${id}/error`, JSON.stringify({ errorMessage: String(error) }));
    }
  }
})();
