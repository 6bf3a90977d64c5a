// Validates Kubernetes objects, including custom resources:
// - against their JSON schemas (type, enum, quantity), which accept unknown fields of custom resources;
// - against their TypeScript types, whose check of object literals finds exactly those fields.
//   node validate.mjs < objects.json      a JSON array; prints the problems and exits with 1, or the number of valid objects
import { readFileSync } from "node:fs";
import ts from "typescript";

const PACKAGES = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "keda.sh": "@kubernetes-models/keda",
};
const LITERALS = new URL("objects.ts", import.meta.url).pathname;

function modulePath({ apiVersion, kind }) {
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  return [PACKAGES[group] ?? "kubernetes-models", group, version, kind].filter(Boolean).join("/");
}

async function bySchema(object) {
  const model = (await import(modulePath(object)))[object.kind];
  try {
    new model(object).validate();
    return [];
  } catch (error) {
    return [`${object.kind} ${object.metadata?.name}: ${error.message}`];
  }
}

function byType(objects) {
  const source = objects
    .map((object, index) => [
      `import type { I${object.kind} as T${index} } from "${modulePath(object)}";`,
      `export const ${object.kind}${index}: T${index} = ${JSON.stringify(object)};`,
    ])
    .flat()
    .join("\n");
  const options = {
    strict: true, noEmit: true, skipLibCheck: true, types: [],
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.getSourceFile = (name, ...rest) =>
    name === LITERALS ? ts.createSourceFile(name, source, options.target) : getSourceFile(name, ...rest);
  host.fileExists = (name) => name === LITERALS || fileExists(name);
  return ts.getPreEmitDiagnostics(ts.createProgram([LITERALS], options, host)).map((diagnostic) => {
    const object = objects[Math.floor((diagnostic.file?.getLineAndCharacterOfPosition(diagnostic.start).line ?? 0) / 2)];
    return `${object.kind} ${object.metadata?.name}: ${ts.flattenDiagnosticMessageText(diagnostic.messageText, " ")}`;
  });
}

const objects = JSON.parse(readFileSync(0, "utf8"));
const problems = [...(await Promise.all(objects.map(bySchema))).flat(), ...byType(objects)];
problems.forEach((problem) => console.error(problem));
if (problems.length) process.exit(1);
console.log(`${objects.length} objects passed their schemas and types`);
