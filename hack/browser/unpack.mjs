// Unpacks what the npm packages hold compressed into the current folder. Called by chromium.py after `npm ci`.
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

for (const name of ["chromium", "al2023.tar", "fonts.tar", "swiftshader.tar"]) {
  await pipeline(
    createReadStream(`node_modules/@sparticuz/chromium/bin/${name}.br`),
    createBrotliDecompress(),
    createWriteStream(name),
  );
}
