import { useEffect, useLayoutEffect, useState } from "react";
import {
  AbsoluteFill,
  cancelRender,
  Composition,
  continueRender,
  delayRender,
  Html5Audio,
  Img,
  staticFile,
  useCurrentFrame,
} from "remotion";

const shape = { width: 128, height: 72, fps: 30, durationInFrames: 10 };

const Card = ({ color = "#204060", text }: { color?: string; text: string }) => (
  <AbsoluteFill style={{ backgroundColor: color, color: "white", font: "16px sans-serif", padding: 8 }}>
    {text}
  </AbsoluteFill>
);

const Slow = ({ msPerFrame }: { msPerFrame: number; frames: number }) => {
  const frame = useCurrentFrame();
  // A layout effect runs before Remotion looks whether the frame is ready.
  useLayoutEffect(() => {
    const handle = delayRender(`frame ${frame}`);
    const timer = setTimeout(() => continueRender(handle), msPerFrame);
    return () => {
      clearTimeout(timer);
      continueRender(handle);
    };
  }, [frame, msPerFrame]);
  return <Card text={`slow ${frame}`} />;
};

const Throws = ({ message }: { message: string }) => {
  const frame = useCurrentFrame();
  if (frame === 3) throw new Error(message);
  return <Card text={`throws ${frame}`} />;
};

const Cancels = () => {
  useEffect(() => cancelRender(new Error("no such user")), []);
  return <Card text="cancels" />;
};

const Hangs = () => {
  useLayoutEffect(() => {
    delayRender("never continued");
  }, []);
  return <Card text="hangs" />;
};

const Tone = () => (
  <>
    <Card text="tone" />
    <Html5Audio src={staticFile("tone.wav")} />
  </>
);

const Env = () => <Card text={process.env.REMOTION_GREETING ?? "no greeting"} />;

type Size = { width: number; height: number; durationInFrames: number };
const Props = ({ width, height, durationInFrames }: Size) => <Card text={`${width}x${height}x${durationInFrames}`} />;

const Logs = () => {
  const frame = useCurrentFrame();
  useEffect(() => console.log(`logged at frame ${frame}`), [frame]);
  return <Card text={`logs ${frame}`} />;
};

const Picture = ({ src }: { src: string }) => <Img src={src} style={{ width: "100%", height: "100%" }} />;

const Hoards = ({ mebibytes }: { mebibytes: number }) => {
  const [hoard] = useState<Uint8Array[]>([]);
  useLayoutEffect(() => {
    const handle = delayRender("hoarding");
    const timer = setInterval(() => {
      if (hoard.length * 16 >= mebibytes) return continueRender(handle);
      hoard.push(new Uint8Array(16 << 20).fill(1));
    }, 10);
    return () => clearInterval(timer);
  }, [hoard, mebibytes]);
  return <Card text="hoards" />;
};

/** Asks for each of the URLs, and says in one line what came of it. */
const Asks = ({ urls }: { urls: string[] }) => {
  useLayoutEffect(() => {
    const handle = delayRender("asking", { timeoutInMilliseconds: 60_000 });
    const ask = async (url: string) => {
      const answer = await fetch(url, { cache: "no-store" });
      return `${answer.status} ${(await answer.text()).slice(0, 40)}`;
    };
    const tried = urls.map((url) => ask(url).catch((error: Error) => `none: ${error.message}`.slice(0, 40)));
    void Promise.all(tried).then((answers) => {
      console.log(`asked: ${JSON.stringify(answers)}`);
      continueRender(handle);
    });
  }, [urls]);
  return <Card text="asks" />;
};

export const Root = () => (
  <>
    {/* tiny: ten frames of a colour and a text, both from props */}
    <Composition id="tiny" component={Card} {...shape} defaultProps={{ color: "#204060", text: "tiny" }} />

    {/* main: what docs/api.md renders */}
    <Composition id="main" component={Card} {...shape} defaultProps={{ text: "main" }} />

    {/* slow: every frame takes msPerFrame, so that a render can be interrupted half way; `frames` of them */}
    <Composition
      id="slow"
      component={Slow}
      {...shape}
      defaultProps={{ msPerFrame: 100, frames: 30 }}
      calculateMetadata={({ props }) => ({ durationInFrames: props.frames })}
    />

    {/* throws: the component throws at frame 3 */}
    <Composition id="throws" component={Throws} {...shape} defaultProps={{ message: "boom at frame 3" }} />

    {/* metadata-throws: fails before the first frame, as a composition does that checks its props */}
    <Composition
      id="metadata-throws"
      component={Card}
      {...shape}
      defaultProps={{ text: "metadata-throws" }}
      calculateMetadata={() => {
        throw new Error("bad data: points is empty");
      }}
    />

    {/* cancels: calls cancelRender(), as a composition does whose data cannot be had */}
    <Composition id="cancels" component={Cancels} {...shape} />

    {/* hangs: a delayRender() that is never continued, until Remotion's own timeout */}
    <Composition id="hangs" component={Hangs} {...shape} />

    {/* odd: a size that H.264 with 4:2:0 cannot have; Remotion renders it as 64x48 */}
    <Composition id="odd" component={Card} {...shape} width={65} height={49} defaultProps={{ text: "odd" }} />

    {/* tone: a video with sound */}
    <Composition id="tone" component={Tone} {...shape} />

    {/* env: shows the environment variable REMOTION_GREETING */}
    <Composition id="env" component={Env} {...shape} />

    {/* props: its size and length come from props */}
    <Composition
      id="props"
      component={Props}
      fps={30}
      defaultProps={{ width: 64, height: 64, durationInFrames: 5 }}
      calculateMetadata={({ props: { width, height, durationInFrames } }) => ({ width, height, durationInFrames })}
    />

    {/* logs: one line to the browser's console at every frame */}
    <Composition id="logs" component={Logs} {...shape} />

    {/* asks: fetches `urls`, which may be none of its business, and logs what it gets */}
    <Composition id="asks" component={Asks} {...shape} durationInFrames={1} defaultProps={{ urls: [] as string[] }} />

    {/* hoards: takes `mebibytes` of memory at its first frame */}
    <Composition id="hoards" component={Hoards} {...shape} durationInFrames={1} defaultProps={{ mebibytes: 1 }} />

    {/* image: a picture from the URL `src`, which may fail to load */}
    <Composition id="image" component={Picture} {...shape} defaultProps={{ src: staticFile("logo.svg") }} />
  </>
);
