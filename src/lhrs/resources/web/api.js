// The only module that calls the server: API key, errors as one line, uploads with progress, streamed answers.

const KEY = "lhrs-key";
let askForKey = async () => false;

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sets the async function that asks the user for a key and returns whether there is one. */
export function onKeyRequired(ask) {
  askForKey = ask;
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

const authorization = () => (key.get() ? { authorization: `Bearer ${key.get()}` } : {});

function refusal(status, text) {
  try {
    return new ServerError(status, JSON.parse(text).error.message);
  } catch {
    return new ServerError(status, `the server answered ${status}`);
  }
}

/** Fetches; asks for the key where it is missing and tries again. Throws ServerError. */
async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...authorization() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "the server cannot be reached");
  }
  if (response.ok) return response;
  if (response.status === 401 && (await askForKey())) return call(path, options);
  throw refusal(response.status, await response.text());
}

const json = async (path, options) => (await call(path, options)).json();
const post = (path, body, signal) =>
  call(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" }, signal });

export const model = async () => (await json("v1/models")).data[0].id;
export const sensors = async () => (await json("v1/sensors")).data;
export const file = (id, rendering) => json(`v1/files/${id}?${new URLSearchParams(rendering)}`);
export const removeFile = (id) => call(`v1/files/${id}`, { method: "DELETE" });
export const preview = async (id, rendering) =>
  (await call(`v1/files/${id}/preview?${new URLSearchParams({ max_side: 2048, ...rendering })}`)).blob();
export const startScene = async (body) => (await post("v1/scenes", body)).json();
export const scene = (id) => json(`v1/scenes/${id}`);
export const removeScene = (id) => call(`v1/scenes/${id}`, { method: "DELETE" });
export const sceneResult = async (id, name) => (await call(`v1/scenes/${id}/${name}`)).blob();
export const example = async (name) => new File([await (await call(`examples/${name}`)).blob()], name);

/** Uploads a file; `progress` gets the fraction that is done, which fetch does not report. */
export async function upload(file, progress) {
  const sent = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/files");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new ServerError(0, "the upload broke off: the file may be too large"));
    const form = new FormData();
    form.append("purpose", "vision");
    form.append("file", file, file.name);
    request.send(form);
  });
  if (sent.status === 200) return JSON.parse(sent.responseText);
  if (sent.status === 401 && (await askForKey())) return upload(file, progress);
  throw refusal(sent.status, sent.responseText);
}

/** Asks; `onText` gets each piece as it comes. Returns the `lhrs` part of the answer. */
export async function chat(body, onText, signal) {
  const response = await post("v1/chat/completions", { ...body, stream: true }, signal);
  let reply = null;
  for await (const event of events(response.body)) {
    if (event.error) throw new ServerError(503, event.error.message);
    const delta = event.choices[0]?.delta;
    if (delta?.content ?? delta?.refusal) onText(delta.content ?? delta.refusal);
    reply = event.lhrs ?? reply;
  }
  if (!reply) throw new ServerError(0, "the answer broke off");
  return reply;
}

async function* events(stream) {
  let rest = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line !== "data: [DONE]") yield JSON.parse(line.slice("data: ".length));
  }
}
