"""A Cognito user pool in moto on loopback, with somebody in it who has signed in.

Prints one line of JSON and serves until its standard input ends.
"""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

REGION = "ap-southeast-2"
ADDRESS = "ana@example.com"
PASSWORD = "Correct-horse-7"

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"

cognito = boto3.client(
    "cognito-idp",
    region_name=REGION,
    endpoint_url=endpoint,
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
pool = cognito.create_user_pool(PoolName="renders")["UserPool"]["Id"]
client = cognito.create_user_pool_client(
    UserPoolId=pool,
    ClientName="guide",
    ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
)["UserPoolClient"]["ClientId"]
cognito.sign_up(
    ClientId=client,
    Username=ADDRESS,
    Password=PASSWORD,
    UserAttributes=[{"Name": "email", "Value": ADDRESS}],
)
cognito.admin_confirm_sign_up(UserPoolId=pool, Username=ADDRESS)
tokens = cognito.initiate_auth(
    ClientId=client,
    AuthFlow="USER_PASSWORD_AUTH",
    AuthParameters={"USERNAME": ADDRESS, "PASSWORD": PASSWORD},
)["AuthenticationResult"]

print(
    json.dumps(
        {
            "issuer": f"https://cognito-idp.{REGION}.amazonaws.com/{pool}",
            "jwks": f"{endpoint}/{pool}/.well-known/jwks.json",
            "client": client,
            "idToken": tokens["IdToken"],
            "accessToken": tokens["AccessToken"],
            "refreshToken": tokens["RefreshToken"],
        }
    ),
    flush=True,
)
sys.stdin.read()
server.stop()
