// Calls the functions of the page's modules, and prints what they return as one line of JSON.
// Each call is [module, function, arguments]; tests/support/typescript.py passes them.
type Call = [module: string, name: string, given: unknown[]];

const results: unknown[] = [];
for (const [module, name, given] of JSON.parse(process.argv[2] ?? "[]") as Call[]) {
  const { [name]: called } = (await import(`./${module}.ts`)) as Record<string, (...given: unknown[]) => unknown>;
  results.push(await called?.(...given));
}
console.log(JSON.stringify(results, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)));
process.exit(0); // the pools of the examples are for a server, and stay open
