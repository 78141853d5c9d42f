"""Makes every call of a file with the client for Python, and writes what came of it.

drive.py CASES OUT; a case is {key, call, options}, and `key` is the id of the credentials it is signed with.
"""

import dataclasses
import datetime
import json
import logging
import sys

from boto3.session import Session
from remotion_lambda import RemotionClient, models

logging.disable(logging.CRITICAL)

NAMES = {
    "forceBucketName": {"renderMediaOnLambda": "bucket_name", "renderStillOnLambda": "force_bucket_name"},
    "offthreadVideoCacheSizeInBytes": "offthreadvideo_cache_size_in_bytes",
    "offthreadVideoThreads": "offthreadvideo_threads",
    "x264Preset": "x264_preset",
}
TYPES = {
    "chromiumOptions": lambda given: models.ChromiumOptions(**{snake(name): value for name, value in given.items()}),
    "privacy": models.Privacy,
    "logLevel": models.LogLevel,
    "webhook": lambda given: models.Webhook(**given),
    "outName": lambda given: given if isinstance(given, str) else models.OutNameInputObject(
        given["bucketName"],
        given["key"],
        credentials(given["s3OutputProvider"]) if "s3OutputProvider" in given else None,
    ),
}


class Unsupported(Exception):
    """The client cannot be asked that."""


def snake(name):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def credentials(given):
    return models.CustomCredentials(
        endpoint=given["endpoint"],
        access_key_id=given.get("accessKeyId"),
        secret_access_key=given.get("secretAccessKey"),
        region=given.get("region"),
    )


def revive(value):
    if isinstance(value, list):
        return [revive(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$date" in value:
        return datetime.datetime.fromisoformat(value["$date"].replace("Z", "+00:00"))
    return {key: revive(inner) for key, inner in value.items()}


def params(kind, call, options):
    fields = {field.name for field in dataclasses.fields(kind)}
    given = {}
    for name, value in options.items():
        if name in ("functionName", "serveUrl"):
            continue
        field = NAMES.get(name, snake(name))
        field = field[call] if isinstance(field, dict) else field
        if field not in fields:
            raise Unsupported(name)
        try:
            given[field] = TYPES[name](value) if name in TYPES else value
        except (TypeError, ValueError) as error:
            raise Unsupported(f"{name}: {error}") from error
    return kind(**given)


def make(case):
    call, options = case["call"], revive(case["options"])
    session = Session(aws_access_key_id=case["key"], aws_secret_access_key="secret", region_name="us-east-1")
    client = RemotionClient(
        region="us-east-1",
        serve_url=options.get("serveUrl", "unused"),
        function_name=options.get("functionName", "unused"),
        session=session,
    )
    if call == "renderMediaOnLambda":
        started = client.render_media_on_lambda(params(models.RenderMediaParams, call, options))
        return {"renderId": started.render_id, "bucketName": started.bucket_name}
    if call == "renderStillOnLambda":
        still = client.render_still_on_lambda(params(models.RenderStillParams, call, options))
        price = still.estimated_price
        return {
            "renderId": still.render_id,
            "bucketName": still.bucket_name,
            "url": still.url,
            "outKey": still.outKey,
            "sizeInBytes": still.size_in_bytes,
            "estimatedPrice": {
                "accruedSoFar": price.accrued_so_far,
                "displayCost": price.display_cost,
                "currency": price.currency,
                "disclaimer": price.disclaimer,
            },
        }
    if call == "getRenderProgress":
        if options.pop("skipLambdaInvocation", False) or "forcePathStyle" in options:
            raise Unsupported("skipLambdaInvocation")
        provider = options.get("s3OutputProvider")
        return vars(
            client.get_render_progress(
                options["renderId"],
                options["bucketName"],
                log_level=options.get("logLevel", "info"),
                s3_output_provider=credentials(provider) if provider else None,
            )
        )
    if call == "cancelRenderOnLambda":
        client.cancel_render_on_lambda(options["renderId"], options["bucketName"])
        return None
    raise Unsupported(call)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    made = []
    for case in cases:
        try:
            made.append({"result": make(case)})
        except Unsupported as error:
            made.append({"unsupported": str(error)})
        except Exception as error:  # whatever a client throws is what came of it
            made.append({"error": str(error)})
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(made, file)


main()
