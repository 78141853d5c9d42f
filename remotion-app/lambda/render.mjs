// Renders a composition on Lambda with nothing but Remotion's own client: `npm run render -- main --props '{"text": "Hello"}'`.
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import { getOrCreateBucket } from "@remotion/lambda";
import { getRenderProgress, renderMediaOnLambda, speculateFunctionName } from "@remotion/lambda-client";
import { main, useFirstAccount } from "./accounts.mjs";
import { regions, shape, siteName } from "./config.mjs";

await main(async () => {
  const { values, positionals } = parseArgs({
    options: { props: { type: "string", default: "{}" }, codec: { type: "string", default: "h264" } },
    allowPositionals: true,
  });
  const [composition = "main"] = positionals;
  const [region] = regions;
  useFirstAccount();
  const functionName = speculateFunctionName(shape);
  const { bucketName } = await getOrCreateBucket({ region });
  const { renderId } = await renderMediaOnLambda({
    region,
    functionName,
    serveUrl: siteName,
    composition,
    codec: values.codec,
    inputProps: JSON.parse(values.props),
    forceBucketName: bucketName,
  });
  console.log(`${renderId} is started by ${functionName} in ${region}`);
  for (;;) {
    // From the bucket: asking the function would take one of those that render.
    const where = { region, functionName, bucketName, renderId, skipLambdaInvocation: true };
    const progress = await getRenderProgress(where);
    console.log(`${Math.floor(progress.overallProgress * 100)}% (${progress.costs.displayCost})`);
    if (progress.fatalErrorEncountered) throw new Error(progress.errors[0].message);
    if (progress.done) {
      console.log(progress.outputFile);
      return;
    }
    await pause(1_000);
  }
});
