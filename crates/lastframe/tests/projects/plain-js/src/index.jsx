import { AbsoluteFill, Composition, interpolateColors, registerRoot, useCurrentFrame } from 'remotion';

function Fade({ from, to }) {
  const frame = useCurrentFrame();
  return <AbsoluteFill style={{ backgroundColor: interpolateColors(frame, [0, 9], [from, to]) }} />;
}

registerRoot(() => (
  <Composition
    id="fade"
    component={Fade}
    width={128}
    height={72}
    fps={30}
    durationInFrames={10}
    defaultProps={{ from: '#0000ff', to: '#00ff00' }}
  />
));
