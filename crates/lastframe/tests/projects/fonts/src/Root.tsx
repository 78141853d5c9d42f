import { Composition, Folder } from "remotion";
import { Paper } from "@/scenes/Paper";
import { Sign } from "@/scenes/Sign";

const shape = { width: 160, height: 72, fps: 30, durationInFrames: 1 };

export const Root = () => (
  <>
    <Folder name="signs">
      <Composition id="sign" component={Sign} {...shape} defaultProps={{ text: "世界", font: "DotGothic16" }} />
    </Folder>
    <Composition id="paper" component={Paper} {...shape} />
  </>
);
