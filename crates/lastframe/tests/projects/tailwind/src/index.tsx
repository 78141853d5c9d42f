import "./index.css";
import { Composition, registerRoot } from "remotion";

const Card: React.FC<{ styled: boolean }> = ({ styled }) => (
  <div className={styled ? "flex h-full w-full items-center justify-center bg-brand" : ""}>
    <div className={styled ? "size-8 bg-black" : ""} />
  </div>
);

registerRoot(() => (
  <Composition id="card" component={Card} width={128} height={72} fps={30} durationInFrames={1} defaultProps={{ styled: true }} />
));
