// Makes the media of the `media` composition: a clip and a tone, three seconds each.
import { spawnSync } from "node:child_process";

const width = 320;
const height = 180;
const fps = 30;
const seconds = 3;

const ffmpeg = (args, input) => {
  const { status } = spawnSync("npx", ["remotion", "ffmpeg", "-y", "-v", "error", ...args], {
    input,
    stdio: ["pipe", "inherit", "inherit"],
  });
  if (status !== 0) process.exit(status ?? 1);
};

const mix = (from, to, part) => from.map((channel, index) => channel + (to[index] - channel) * part);
const wave = (turns) => Math.sin(2 * Math.PI * turns);
/** How much of a pixel lies beyond an edge that is this far away, both measured in heights of the picture. */
const beyond = (distance) => Math.min(1, Math.max(0, 0.5 + distance * height));

const dusk = { high: [49, 46, 129], low: [251, 146, 120], sun: [255, 240, 200] };
const hills = [
  { color: [157, 78, 126], ridge: 0.56, waves: 1, speed: 1 },
  { color: [104, 52, 110], ridge: 0.67, waves: 2, speed: 2 },
  { color: [45, 28, 82], ridge: 0.8, waves: 1, speed: 3 },
];

/** The colour of a point at a time, all from 0 to 1: hills that pass before a low sun, back where they began at 1. */
const colorAt = (u, v, time) => {
  const rim = Math.hypot((u - 0.66) * (width / height), v - 0.42) - 0.11;
  const glow = Math.max(0.8 * Math.exp(-5 * Math.max(0, rim)), beyond(-rim));
  let color = mix(mix(dusk.high, dusk.low, Math.min(1, v / 0.6)), dusk.sun, glow);
  for (const { color: hill, ridge, waves, speed } of hills) {
    const turns = waves * u + speed * time;
    const top = ridge + 0.05 * wave(turns + ridge) + 0.02 * wave(2 * turns + 5 * ridge);
    color = mix(color, hill, beyond(v - top));
  }
  return color;
};

const drawFrame = (pixels, time) => {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      pixels.set(colorAt(x / width, y / height, time), (y * width + x) * 3);
    }
  }
};

const frameBytes = width * height * 3;
const frameCount = fps * seconds;
const frames = Buffer.alloc(frameBytes * frameCount);
for (let frame = 0; frame < frameCount; frame++) {
  const pixels = new Uint8ClampedArray(frames.buffer, frames.byteOffset + frame * frameBytes, frameBytes);
  drawFrame(pixels, frame / frameCount);
}

// Remotion's ffmpeg has no raw video input of its own; a pipe of images takes raw frames.
const rawFrames = ["-f", "image2pipe", "-c:v", "rawvideo", "-pixel_format", "rgb24"];
const shape = ["-video_size", `${width}x${height}`, "-frame_size", `${frameBytes}`, "-framerate", `${fps}`];
const h264 = ["-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p", "-movflags", "+faststart"];
ffmpeg([...rawFrames, ...shape, "-i", "-", ...h264, "public/clip.mp4"], frames);

const tone = `sine=frequency=440:sample_rate=22050:duration=${seconds}`;
ffmpeg(["-f", "lavfi", "-i", tone, "-c:a", "pcm_s16le", "public/tone.wav"]);
