import type { CalculateMetadataFunction } from "remotion";
import { AbsoluteFill, Img, interpolate, spring, staticFile, useCurrentFrame } from "remotion";
import { z } from "zod";
import { parseProps } from "./parse-props";

export const chartSchema = z.object({
  title: z.string().min(1),
  kind: z.enum(["bar", "line"]),
  points: z.array(z.object({ label: z.string(), value: z.number().nonnegative() })).min(1).max(30),
  secondsPerPoint: z.number().min(0.05).max(10),
});
type Props = z.infer<typeof chartSchema>;

const fps = 30;
const leadInSeconds = 0.6;
const holdSeconds = 2;

export const planChart: CalculateMetadataFunction<Props> = ({ props }) => {
  const chart = parseProps(chartSchema, props);
  const seconds = leadInSeconds + chart.points.length * chart.secondsPerPoint + holdSeconds;
  return { props: chart, fps, durationInFrames: Math.ceil(seconds * fps) };
};

/** Round steps (1, 2 or 5 times a power of ten), about five of them, that reach the highest value. */
const axisTicks = (highest: number): number[] => {
  const rough = (highest || 1) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const count = Math.ceil((highest || 1) / step);
  return Array.from({ length: count + 1 }, (_, index) => index * step);
};

const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 6 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });

const plot = { width: 1080, height: 420 };

export const Chart = ({ title, kind, points, secondsPerPoint }: Props) => {
  const frame = useCurrentFrame();
  const seconds = frame / fps;

  const ticks = axisTicks(Math.max(...points.map(({ value }) => value)));
  const top = ticks.at(-1) ?? 1;
  const slot = plot.width / points.length;

  const marks = points.map(({ label, value }, index) => {
    const start = (leadInSeconds + index * secondsPerPoint) * fps;
    const enter = spring({ frame: frame - start, fps, config: { damping: 18, stiffness: 90 } });
    const reached = kind === "bar" ? value * enter : value;
    return { label, value, enter, x: (index + 0.5) * slot, y: plot.height * (1 - reached / top) };
  });
  const titleEnter = spring({ frame, fps, config: { damping: 200 } });

  return (
    <AbsoluteFill className="bg-linear-to-br from-indigo-950 to-slate-900 p-16 font-sans text-white">
      <header
        className="flex items-center justify-between gap-8"
        style={{ opacity: titleEnter, transform: `translateY(${(1 - titleEnter) * -20}px)` }}
      >
        <h1 className="truncate text-5xl leading-normal font-bold tracking-tight">{title}</h1>
        <Img src={staticFile("logo.svg")} className="size-16" />
      </header>
      <svg
        className="absolute bottom-20 left-28 overflow-visible"
        width={plot.width}
        height={plot.height}
        fontSize={Math.min(22, slot * 0.3)}
        fill="white"
      >
        <linearGradient id="ink" gradientUnits="userSpaceOnUse" x1="0" y1={plot.height} x2="0" y2="0">
          <stop offset="0" stopColor="#6366f1" />
          <stop offset="1" stopColor="#fb7185" />
        </linearGradient>
        <Grid ticks={ticks} seconds={seconds} />
        {kind === "line" ? <Line marks={marks} pen={((seconds - leadInSeconds) / secondsPerPoint + 0.5) * slot} /> : null}
        {marks.map(({ label, value, enter, x, y }, index) => (
          <g key={index} textAnchor="middle">
            {kind === "bar" ? (
              <rect x={x - slot * 0.3} y={y} width={slot * 0.6} height={plot.height - y} rx={6} fill="url(#ink)" />
            ) : (
              <circle cx={x} cy={y} r={9 * enter} stroke="url(#ink)" strokeWidth={4} fill="#1e1b4b" />
            )}
            <text x={x} y={y - 18} fontWeight={700} opacity={enter} stroke="#17173a" strokeWidth={8} paintOrder="stroke">
              {exact.format(value)}
            </text>
            <text x={x} y={plot.height + 36} fillOpacity={0.75}>
              {label}
            </text>
          </g>
        ))}
      </svg>
    </AbsoluteFill>
  );
};

const Grid = ({ ticks, seconds }: { ticks: number[]; seconds: number }) => {
  const top = ticks.at(-1) ?? 1;
  return ticks.map((tick, index) => {
    const y = plot.height * (1 - tick / top);
    const start = index * 0.06;
    const enter = interpolate(seconds, [start, start + 0.3], [0, 1], {
      extrapolateLeft: "clamp",
      extrapolateRight: "clamp",
    });
    return (
      <g key={tick} opacity={enter}>
        <line x2={plot.width * enter} y1={y} y2={y} stroke="white" strokeOpacity={index === 0 ? 0.5 : 0.12} />
        <text x={-16} y={y} dy="0.35em" textAnchor="end" fontSize={18} fillOpacity={0.6}>
          {short.format(tick)}
        </text>
      </g>
    );
  });
};

type Point = { x: number; y: number };

/** The line through the marks, as far as the pen has come. */
const Line = ({ marks, pen }: { marks: Point[]; pen: number }) => {
  const drawn: Point[] = marks.filter(({ x }) => x <= pen);
  const from = drawn.at(-1);
  const to = marks[drawn.length];
  if (from && to) {
    const part = (pen - from.x) / (to.x - from.x);
    drawn.push({ x: pen, y: from.y + (to.y - from.y) * part });
  }
  return (
    <polyline
      points={drawn.map(({ x, y }) => `${x},${y}`).join(" ")}
      fill="none"
      stroke="url(#ink)"
      strokeWidth={6}
      strokeLinejoin="round"
      strokeLinecap="round"
    />
  );
};
