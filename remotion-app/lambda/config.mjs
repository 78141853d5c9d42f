// What `npm run deploy`, `delete` and `render` work with. Edit it.

/** The regions of AWS to deploy to; https://www.remotion.dev/docs/lambda/region-selection lists them. */
export const regions = (process.env.REMOTION_REGIONS ?? "ap-southeast-2").split(",");

/** The function. Its name tells all of this, so another size is another function. */
export const shape = { memorySizeInMb: 2048, diskSizeInMb: 10240, timeoutInSeconds: 240 };

/** The site, as it is called in the bucket. */
export const siteName = "remotion-app";
