import "./index.css";
import { Composition } from "remotion";
import { Chart, chartSchema, planChart } from "./Chart";
import { Main, mainSchema, planMain } from "./Main";
import { Media, mediaSchema, planMedia } from "./Media";

export const Root = () => (
  <>
    <Composition
      id="main"
      component={Main}
      schema={mainSchema}
      calculateMetadata={planMain}
      width={1920}
      height={1080}
      fps={30}
      durationInFrames={1200}
      defaultProps={{ text: "Done when the last frame is written" }}
    />
    <Composition
      id="chart"
      component={Chart}
      schema={chartSchema}
      calculateMetadata={planChart}
      width={1280}
      height={720}
      defaultProps={{
        title: "Videos rendered per day",
        kind: "bar" as const,
        secondsPerPoint: 0.4,
        points: [
          { label: "Mon", value: 412 },
          { label: "Tue", value: 538 },
          { label: "Wed", value: 496 },
          { label: "Thu", value: 671 },
          { label: "Fri", value: 820 },
          { label: "Sat", value: 305 },
          { label: "Sun", value: 264 },
        ],
      }}
    />
    <Composition
      id="media"
      component={Media}
      schema={mediaSchema}
      calculateMetadata={planMedia}
      width={640}
      height={360}
      fps={30}
      durationInFrames={90}
      defaultProps={{ title: "Sound and picture", volume: 0.6 }}
    />
  </>
);
