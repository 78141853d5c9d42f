// The guide's render-lambda-function: starts what the message asks for, and is done. By `require`, because the client's ES
// module does not live in a bundle of the kind that aws-cdk makes.
const { renderMediaOnLambda } = require("@remotion/lambda-client");

exports.handler = async (event) => {
  for (const record of event.Records) {
    const message = JSON.parse(record.body);
    await renderMediaOnLambda({
      region: process.env.AWS_REGION,
      functionName: process.env.REMOTION_FUNCTION,
      forceBucketName: process.env.REMOTION_BUCKET,
      serveUrl: process.env.SERVE_URL,
      composition: "main",
      codec: "h264",
      inputProps: message,
    });
  }
  return { batchItemFailures: [] };
};
