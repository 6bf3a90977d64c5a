// Who looks at the page and what they may do, and requests to the server.

export const session = { name: "", role: "viewer", changes: false, can_log_out: false, room: true, token: "", version: "" };

export const mayChange = () => session.role === "operator" && session.changes;

/** Reads the session. Sends the browser to the login if there is none. */
export async function openSession() {
  const answer = await fetch("/api/session");
  if (answer.status === 401) {
    location.assign("/");
    await new Promise(() => {}); // the page ends
  }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  Object.assign(session, await answer.json());
}

/** Reads the session again after a lost connection; loads the page anew if the server is of another version by now. */
export async function renewSession() {
  const before = session.version;
  await openSession();
  if (before && session.version !== before) location.reload();
  return session;
}

/** Returns the JSON at an address; throws an Error with the server's reason. */
export async function read(path) {
  return unpack(await fetch(path));
}

/** Asks for a change; throws an Error with the server's reason. */
export async function send(path, body) {
  const post = () =>
    fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-console-token": session.token },
      body: JSON.stringify(body),
    });
  let answer = await post();
  if (answer.status === 403) {
    await openSession(); // the server may have been restarted
    answer = await post();
  }
  return unpack(answer);
}

async function unpack(answer) {
  let data = {};
  try {
    data = await answer.json();
  } catch {
    // no JSON: the status says enough
  }
  if (!answer.ok) {
    const error = new Error(data.error ?? `the server answered ${answer.status}`);
    error.warning = data.warning === true;
    throw error;
  }
  return data;
}

/** Returns the address of something about a camera. Halves of surrogate pairs can't be in an address, and no camera has any. */
export function address(path, name, more = {}) {
  return `${path}?${new URLSearchParams({ name: name.toWellFormed(), ...more })}`;
}
