// Deploys the function, a bucket and the site to every region of every account. What is there already stays.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deployFunction, deploySiteFromBundle, getOrCreateBucket } from "@remotion/lambda";
import { forEachAccount, main, say } from "./accounts.mjs";
import { regions, shape, siteName } from "./config.mjs";

const project = new URL("..", import.meta.url);

/** Bundles as the project's own configuration says. */
const bundle = (bundleDir) => {
  console.log("bundling the site");
  const { status } = spawnSync("npx", ["remotion", "bundle", "--out-dir", bundleDir, "--log", "error"], {
    cwd: project,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error("the site could not be bundled");
};

await main(async () => {
  const temporary = mkdtempSync(join(tmpdir(), "lastframe-deploy-"));
  const deployed = [];
  try {
    const bundleDir = join(temporary, "bundle");
    bundle(bundleDir);
    await forEachAccount(async (account) => {
      for (const region of regions) {
        const bucket = await getOrCreateBucket({ region, enableFolderExpiry: true });
        say(account, region, `bucket ${bucket.bucketName} ${bucket.alreadyExisted ? "was there" : "is made"}`);
        const made = await deployFunction({ region, createCloudWatchLogGroup: true, ...shape });
        say(account, region, `function ${made.functionName} ${made.alreadyExisted ? "was there" : "is deployed"}`);
        const { bucketName } = bucket;
        const site = await deploySiteFromBundle({ region, bucketName, siteName, bundleDir });
        const { uploadedFiles, deletedFiles, untouchedFiles } = site.stats;
        const files = `${uploadedFiles} files brought, ${deletedFiles} removed, ${untouchedFiles} as they were`;
        say(account, region, `site ${site.serveUrl} (${files})`);
        deployed.push({ account, region, name: made.functionName });
      }
    });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  console.log("\nFor lastframe.toml:");
  for (const { account, region, name } of deployed) {
    console.log(`\n[[lambda.function]]\nname = "${name}"\nregion = "${region}"`);
    if (account !== undefined) console.log(`account = ${account}`);
  }
});
