// Signing in and out. The token goes to the server once; afterwards the browser sends it as a cookie that scripts cannot read.

import { address } from "./state.js";

const section = document.getElementById("sign-in");
const form = document.getElementById("session");
const notice = document.getElementById("notice");

/** Asks for a token, to look at `state` with. */
export function signIn(state) {
  // The address of a link whose token was wrong still has it.
  history.replaceState(null, "", address(state));
  form.elements.state.value = address(state).replace(/^[^?]*\??/, "");
  section.hidden = false;
  form.elements.token.focus();
}

/** Has the browser forget the token. */
export async function signOut() {
  await fetch("session", { method: "DELETE", credentials: "same-origin" });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const sent = new URLSearchParams(new FormData(form));
  notice.textContent = "";
  try {
    const answer = await fetch("session", { method: "POST", body: sent, redirect: "manual" });
    if (answer.type === "opaqueredirect") {
      location.reload();
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    notice.textContent = page.getElementById("notice")?.textContent ?? "The server did not take the token.";
  } catch {
    notice.textContent = "The server does not answer. It may be starting, or stopped.";
  }
  form.elements.token.select();
});
