import { Config } from "@remotion/cli/config";
import { enableTailwind } from "@remotion/tailwind-v4";

Config.setEntryPoint("src/index.ts");
Config.setRspack(true);
Config.overrideBundlerConfig(enableTailwind);
