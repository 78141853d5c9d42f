// A receiver of webhooks, on loopback: Remotion's three handlers, and npm's standardwebhooks. Says its address on a line of its
// own, and then, for each webhook, a line of JSON: what its handlers made of it, and of the same one with a byte changed.

import {createServer} from 'node:http';
import {
	appRouterWebhook,
	expressWebhook,
	pagesRouterWebhook,
	validateWebhookSignature,
} from '@remotion/lambda-client';
import {Webhook} from 'standardwebhooks';

const [secret] = process.argv.slice(2);
const standard = secret.startsWith('whsec_') ? new Webhook(secret) : new Webhook(secret, {format: 'raw'});

const heard = [];
const options = {
	secret,
	onSuccess: (payload) => void heard.push(['success', payload]),
	onError: (payload) => void heard.push(['error', payload]),
	onTimeout: (payload) => void heard.push(['timeout', payload]),
};

// What Express and Next give their handlers of a request, and take of an answer.
const answer = () => ({
	setHeader() {},
	status(code) {
		this.code = code;
		return this;
	},
	json() {},
	end() {},
});

const throughAll = async (headers, text) => {
	heard.length = 0;
	const app = await appRouterWebhook(options)(new Request('http://x', {method: 'POST', headers, body: text}));
	const body = JSON.parse(text);
	const [express, pages] = [answer(), answer()];
	await expressWebhook(options)({method: 'POST', header: (name) => headers[name.toLowerCase()], body}, express);
	await pagesRouterWebhook(options)({method: 'POST', headers, body}, pages);
	return {statuses: [app.status, express.code, pages.code], calls: heard.map(([name]) => name)};
};

const passes = (check) => {
	try {
		check();
		return true;
	} catch {
		return false;
	}
};

// The last letter of the render's id: what is sent stays JSON.
const change = (text) => text.replace(/("renderId":"[^"]*)(.)"/, (_, head, last) => `${head}${last === '0' ? '1' : '0'}"`);

const server = createServer(async (request, response) => {
	const chunks = [];
	for await (const chunk of request) chunks.push(chunk);
	const bytes = Buffer.concat(chunks);
	const [text, headers] = [bytes.toString('utf8'), {...request.headers}];
	const signatureHeader = headers['x-remotion-signature'];
	const valid = (text) => passes(() => validateWebhookSignature({secret, body: JSON.parse(text), signatureHeader}));
	const verified = (text) => passes(() => standard.verify(text, headers));
	const good = await throughAll(headers, text);
	const payload = JSON.parse(text);
	const said = {
		payload,
		keys: Object.keys(payload),
		id: headers['webhook-id'],
		mode: headers['x-remotion-mode'],
		status: headers['x-remotion-status'],
		length: Number(headers['content-length']) === bytes.length,
		good: {...good, valid: valid(text), verified: verified(text)},
		changed: {
			...(await throughAll(headers, change(text))),
			valid: valid(change(text)),
			verified: verified(change(text)),
		},
	};
	console.log(JSON.stringify(said));
	response.writeHead(good.statuses[0]).end();
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.resume().on('end', () => process.exit());
