import type { CalculateMetadataFunction } from "remotion";
import { AbsoluteFill, Img, interpolate, spring, staticFile, useCurrentFrame, useVideoConfig } from "remotion";
import { z } from "zod";
import { parseProps } from "./parse-props";

const heading = z.string().max(300);
export const mainSchema = z.object({ text: heading, message: heading.optional() });
type Props = z.infer<typeof mainSchema>;

/** `message` is what the body of Remotion's SQS guide brings; it stands in the heading's place. */
export const planMain: CalculateMetadataFunction<Props> = ({ props }) => {
  const { text, message } = parseProps(mainSchema, props);
  return { props: { text: message ?? text } };
};

const lights = [
  { color: "#7c3aed", orbits: 2, phase: 0, x: 22, y: 24, size: 75 },
  { color: "#e11d48", orbits: -4, phase: 1.9, x: 80, y: 74, size: 70 },
  { color: "#0284c7", orbits: 4, phase: 4.1, x: 82, y: 16, size: 60 },
  { color: "#b45309", orbits: -2, phase: 5.2, x: 16, y: 88, size: 55 },
];

/** Lights that wander over a night sky. Each orbit is whole, so that the last frame leads back to the first. */
const Background = ({ progress }: { progress: number }) => {
  const layers = lights.map(({ color, orbits, phase, x, y, size }) => {
    const angle = 2 * Math.PI * orbits * progress + phase;
    const left = x + 14 * Math.cos(angle);
    const top = y + 16 * Math.sin(angle);
    const fall = `${color}, ${color}d9 20%, ${color}80 45%, ${color}26 75%, ${color}00`;
    return `radial-gradient(ellipse ${size}% ${size * 1.2}% at ${left}% ${top}%, ${fall})`;
  });
  return <AbsoluteFill style={{ background: `${layers.join(", ")}, #1e1b4b`, backgroundBlendMode: "screen" }} />;
};

/** The type size at which a text of any accepted length fills about the same part of the frame. */
const headingSize = (text: string) => Math.min(168, 1000 / Math.sqrt(text.length));

const Heading = ({ text }: { text: string }) => {
  const frame = useCurrentFrame();
  const { fps } = useVideoConfig();
  return (
    <h1
      className="max-w-[1500px] text-center font-bold leading-[1.12] tracking-tight text-balance wrap-anywhere text-white"
      style={{ fontSize: headingSize(text) }}
    >
      {text.split(/(\s+)/).map((word, index) => {
        if (word.trim() === "") return word;
        const enter = spring({ frame: frame - 8 - index * 2, fps, config: { damping: 13, mass: 0.8 } });
        return (
          <span
            key={index}
            className="inline-block"
            style={{
              opacity: Math.min(1, enter * 1.5),
              transform: `translateY(${(1 - enter) * 90}px) scale(${0.86 + 0.14 * enter})`,
            }}
          >
            {word}
          </span>
        );
      })}
    </h1>
  );
};

/** The line that is full when the last frame is drawn. */
const Timeline = () => {
  const frame = useCurrentFrame();
  const { fps, durationInFrames } = useVideoConfig();
  const opacity = interpolate(frame, [fps, 2 * fps], [0, 1], {
    extrapolateLeft: "clamp",
    extrapolateRight: "clamp",
  });
  return (
    <div className="absolute inset-x-24 bottom-20 text-white" style={{ opacity }}>
      <div className="mb-7 flex items-center justify-between text-3xl">
        <span className="flex items-center gap-5 font-semibold">
          <Img src={staticFile("logo.svg")} className="size-14" />
          Lastframe
        </span>
        <span className="tabular-nums text-white/80">
          frame {frame + 1} of {durationInFrames}
        </span>
      </div>
      <div className="h-1.5 overflow-hidden rounded-full bg-white/20">
        <div className="h-full rounded-full bg-white" style={{ width: `${((frame + 1) / durationInFrames) * 100}%` }} />
      </div>
    </div>
  );
};

export const Main = ({ text }: Props) => {
  const frame = useCurrentFrame();
  const { durationInFrames } = useVideoConfig();
  return (
    <AbsoluteFill className="items-center justify-center font-sans">
      <Background progress={frame / durationInFrames} />
      <AbsoluteFill className="items-center justify-center pb-24">
        <Heading text={text} />
      </AbsoluteFill>
      <Timeline />
    </AbsoluteFill>
  );
};
