// The guide's enqueue-function: what comes in goes to the queue.
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const sqs = new SQSClient({});

export const handler = async (event) => {
  const message = JSON.parse(event.body ?? "{}");
  const sent = await sqs.send(
    new SendMessageCommand({
      QueueUrl: process.env.QUEUE_URL,
      MessageBody: JSON.stringify(message),
      MessageGroupId: "renders",
      MessageDeduplicationId: crypto.randomUUID(),
    }),
  );
  return {
    statusCode: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message: `Message sent to SQS - here is the MessageId: ${sent.MessageId}` }),
  };
};
