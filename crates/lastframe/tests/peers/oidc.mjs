// An issuer: npm's oidc-provider on loopback. Says its address on a line of its own when it listens, and then, for each
// line "rotate" on its standard input, signs with another key and says that one's id. Ends with its standard input.

import {generateKeyPairSync, randomUUID} from 'node:crypto';
import {createServer} from 'node:http';
import {createInterface} from 'node:readline';
import Provider from 'oidc-provider';

const [audience, client, secret] = process.argv.slice(2);

// It tells its user what to think of; standard output is for the test.
console.info = console.warn;

const keys = [];
const addKey = () => {
	const {privateKey} = generateKeyPairSync('rsa', {modulusLength: 2048});
	// The newest first: that is the one that signs.
	keys.unshift({...privateKey.export({format: 'jwk'}), kid: randomUUID(), use: 'sig', alg: 'RS256'});
};

const server = createServer((request, response) => handle(request, response));
server.listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

let handle;
const provide = () => {
	const provider = new Provider(issuer, {
		clients: [
			{
				client_id: client,
				client_secret: secret,
				grant_types: ['client_credentials'],
				redirect_uris: [],
				response_types: [],
			},
		],
		extraTokenClaims: () => ({org: 'acme'}),
		features: {
			clientCredentials: {enabled: true},
			devInteractions: {enabled: false},
			resourceIndicators: {
				enabled: true,
				defaultResource: () => audience,
				getResourceServerInfo: () => ({
					audience,
					scope: 'renders:read renders:write',
					accessTokenFormat: 'jwt',
					jwt: {sign: {alg: 'RS256'}},
				}),
			},
		},
		jwks: {keys},
		ttl: {ClientCredentials: 600},
	});
	handle = provider.callback();
};

addKey();
provide();
console.log(issuer);

for await (const line of createInterface({input: process.stdin})) {
	if (line === 'rotate') {
		addKey();
		provide();
		console.log(keys[0].kid);
	}
}

process.exit();
