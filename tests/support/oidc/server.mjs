// An OpenID provider on the loopback, with TLS. Settings come as JSON in the first argument:
// {port, certificate, key, jwks, seconds}: files in PEM, keys to sign with, and how long an access token is good.
// Anybody may log in as anybody, with any password. Says "ready" when it answers.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const algorithm = settings.jwks.keys[0].alg;

function claims(name) {
  return { preferred_username: name, email: `${name}@example.org`, email_verified: !name.startsWith('un') };
}

const provider = new Provider(`https://localhost:${settings.port}`, {
  jwks: settings.jwks,
  cookies: { keys: ['for tests'] },
  clients: [
    {
      client_id: 'jumpstarter-cli',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
      id_token_signed_response_alg: algorithm,
    },
    {
      client_id: 'robot',
      client_secret: 'robot-secret',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      id_token_signed_response_alg: algorithm,
    },
  ],
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:jumpstarter',
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'openid profile email offline_access',
        audience: resource.replace('urn:', ''),
        accessTokenFormat: 'jwt',
        accessTokenTTL: settings.seconds,
        jwt: { sign: { alg: algorithm } },
      }),
    },
  },
  scopes: ['openid', 'profile', 'email', 'offline_access'],
  extraTokenClaims: (ctx, token) => claims(token.accountId ?? token.clientId),
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...claims(id) }) }),
  issueRefreshToken: (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
});

const options = { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) };
createServer(options, provider.callback()).listen(settings.port, '127.0.0.1', () => console.log('ready'));
