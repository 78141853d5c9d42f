// The AWS accounts whose keys are in the environment or in .env: AWS_KEY_1 and AWS_SECRET_1, AWS_KEY_2 and so on; or, without
// numbers, the credentials that Remotion finds by itself.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const file = fileURLToPath(new URL("../.env", import.meta.url));
if (existsSync(file)) process.loadEnvFile(file);

const numbers = Object.keys(process.env)
  .map((name) => /^AWS_KEY_([1-9]\d*)$/.exec(name)?.[1])
  .filter((number) => number !== undefined)
  .map(Number)
  .sort((a, b) => a - b);

const use = (number) => {
  const id = process.env[`AWS_KEY_${number}`];
  const secret = process.env[`AWS_SECRET_${number}`];
  if (!id || !secret) throw new Error(`account ${number} needs AWS_KEY_${number} and AWS_SECRET_${number}`);
  // A profile or a session of somebody else would come before keys.
  for (const name of ["REMOTION_AWS_PROFILE", "AWS_PROFILE", "REMOTION_AWS_SESSION_TOKEN"]) delete process.env[name];
  process.env.REMOTION_AWS_ACCESS_KEY_ID = id;
  process.env.REMOTION_AWS_SECRET_ACCESS_KEY = secret;
};

/** Does `work` for each account in turn, with its number; undefined where there are no numbers. */
export const forEachAccount = async (work) => {
  if (numbers.length === 0) return await work(undefined);
  for (const number of numbers) {
    use(number);
    await work(number);
  }
};

/** Takes the first account there is. */
export const useFirstAccount = () => {
  if (numbers.length > 0) use(numbers[0]);
};

/** Says what is being done, where. */
export const say = (account, region, what) => {
  const where = account === undefined ? region : `account ${account}, ${region}`;
  console.log(`${where}: ${what}`);
};

/** Runs it, and ends the process with a sentence instead of a stack when it fails. */
export const main = async (work) => {
  try {
    await work();
  } catch (error) {
    console.error(`failed: ${error.message}`);
    process.exit(1);
  }
};
