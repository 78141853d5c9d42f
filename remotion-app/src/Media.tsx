import type { CalculateMetadataFunction } from "remotion";
import { AbsoluteFill, Html5Audio, interpolate, OffthreadVideo, staticFile, useVideoConfig } from "remotion";
import { z } from "zod";
import { parseProps } from "./parse-props";

export const mediaSchema = z.object({
  title: z.string(),
  volume: z.number().min(0).max(1),
});
type Props = z.infer<typeof mediaSchema>;

export const planMedia: CalculateMetadataFunction<Props> = ({ props }) => ({
  props: parseProps(mediaSchema, props),
});

export const Media = ({ title, volume }: Props) => {
  const { durationInFrames } = useVideoConfig();
  const fade = (frame: number) =>
    interpolate(frame, [0, 10, durationInFrames - 20, durationInFrames - 1], [0, volume, volume, 0]);
  return (
    <AbsoluteFill className="font-sans">
      <OffthreadVideo src={staticFile("clip.mp4")} className="size-full object-cover" muted />
      <Html5Audio src={staticFile("tone.wav")} volume={fade} />
      <AbsoluteFill className="justify-end bg-linear-to-t from-black/60 to-transparent to-50% p-8">
        <h1 className="text-4xl font-bold tracking-tight text-white">{title}</h1>
        <p className="mt-1 text-lg text-white/75">a clip and a 440 Hz tone</p>
      </AbsoluteFill>
    </AbsoluteFill>
  );
};
