// Takes away what deploy.mjs has made, in every region of every account: site and function. Buckets stay, with the renders in
// them.
import { deleteFunction, deleteSite, getFunctions, getSites } from "@remotion/lambda";
import { speculateFunctionName } from "@remotion/lambda-client";
import { forEachAccount, main, say } from "./accounts.mjs";
import { regions, shape, siteName } from "./config.mjs";

await main(() =>
  forEachAccount(async (account) => {
    for (const region of regions) {
      const { sites, buckets } = await getSites({ region });
      for (const { id, bucketName } of sites.filter(({ id }) => id === siteName)) {
        const { totalSizeInBytes } = await deleteSite({ region, bucketName, siteName: id });
        say(account, region, `site ${id} is deleted from ${bucketName} (${totalSizeInBytes} bytes)`);
      }
      if (!sites.some(({ id }) => id === siteName)) say(account, region, `there was no site ${siteName}`);
      const functionName = speculateFunctionName(shape);
      const functions = await getFunctions({ region, compatibleOnly: false });
      if (functions.some((deployed) => deployed.functionName === functionName)) {
        await deleteFunction({ region, functionName });
        say(account, region, `function ${functionName} is deleted`);
      } else {
        say(account, region, `there was no function ${functionName}`);
      }
      for (const { name } of buckets) say(account, region, `bucket ${name} stays, with the renders in it`);
    }
  }),
);
