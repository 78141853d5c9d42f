import "@fontsource/dotgothic16/400.css";
import { useEffect, useState } from "react";
import { AbsoluteFill, continueRender, delayRender } from "remotion";

export const Sign: React.FC<{ text: string; font: string }> = ({ text, font }) => {
  const [handle] = useState(() => delayRender("the font"));
  const family = `"${font}", sans-serif`;
  useEffect(() => {
    document.fonts.load(`48px ${family}`, text).then(() => continueRender(handle));
  }, [family, handle, text]);
  return <AbsoluteFill style={{ backgroundColor: "white", color: "black", fontFamily: family, fontSize: 48 }}>{text}</AbsoluteFill>;
};
