import { paper } from "@/palette";
import { AbsoluteFill } from "remotion";

export const Paper: React.FC = () => <AbsoluteFill style={{ backgroundColor: paper }} />;
