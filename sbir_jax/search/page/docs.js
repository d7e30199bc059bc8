// Lists the endpoints of /openapi.json.

const api = await (await fetch("/openapi.json")).json();
const list = document.getElementById("list");
list.replaceChildren(node("p", api.info.description));
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const article = node("article");
    const heading = node("h2");
    heading.append(node("code", `${method.toUpperCase()} ${path}`));
    article.append(heading, node("p", about.description));
    fields(article, "Parameters", Object.fromEntries(
      (about.parameters ?? []).map((p) => [p.name, { ...p.schema, description: p.description }])));
    for (const [kind, body] of Object.entries(about.requestBody?.content ?? {})) {
      const schema = resolve(body.schema);
      fields(article, `Body, ${kind}`, schema.properties, schema.required);
    }
    const answer = about.responses["200"].content?.["application/json"]?.schema;
    if (answer?.$ref) fields(article, "Answer", resolve(answer).properties);
    list.append(article);
  }
}

function node(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function resolve(schema) {
  if (!schema.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
}

function type(schema) {
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.enum) return schema.enum.join(" or ");
  const whole = resolve(schema);
  if (whole.type === "array" && whole.items) return `list of ${type(whole.items)}`;
  if (schema.$ref) return `{${Object.keys(whole.properties).join(", ")}}`;
  return schema.format ?? schema.type ?? "any";
}

function rule(schema) {
  const all = [schema, ...(schema.anyOf ?? [])];
  const find = (key) => all.find((s) => key in s)?.[key];
  const low = find("minimum"), high = find("maximum"), long = find("maxLength");
  const parts = [];
  if (low !== undefined) parts.push(`${low} to ${high}`);
  if (long !== undefined) parts.push(`at most ${long} characters`);
  if ("default" in schema && schema.default !== null) parts.push(`default ${schema.default}`);
  return parts.join(", ");
}

function fields(article, title, properties = {}, required = []) {
  const names = Object.entries(properties);
  if (!names.length) return;
  article.append(node("h3", title));
  const dl = node("dl");
  for (const [name, schema] of names) {
    const row = node("div"), dt = node("dt");
    dt.append(node("code", name));
    const must = required.includes(name) ? "required" : "";
    const text = [type(schema), must, rule(schema)].filter(Boolean).join("; ");
    row.append(dt, node("dd", schema.description ? `${text}: ${schema.description}` : text));
    dl.append(row);
  }
  article.append(dl);
}
