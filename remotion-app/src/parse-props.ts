import { z } from "zod";

/**
 * A schema given to `<Composition>` is only for the Studio; a render never runs it. Every composition
 * therefore parses its props in `calculateMetadata`, where a bad one fails before the first frame.
 */
export const parseProps = <Schema extends z.ZodType>(schema: Schema, props: unknown): z.output<Schema> => {
  const result = schema.safeParse(props);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${z.core.toDotPath(path)}: ${message}`);
  throw new Error(`Bad props: ${problems.join("; ")}`);
};
