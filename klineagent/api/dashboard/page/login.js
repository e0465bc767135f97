// The login: asks for the token, and keeps it for this tab only.

import { onLocked, token } from "./agent.js";
import { make } from "./element.js";

const dialog = document.getElementById("login");
const logout = document.getElementById("logout");

export function open(_, page) {
  const field = make("input", { type: "password", id: "token", required: true, autocomplete: "current-password" });
  const wrong = make("p", { className: "bad", role: "alert" });
  const form = make(
    "form", { method: "dialog" },
    make("h2", { id: "login-title", textContent: "Token" }),
    make("p", { textContent: "The agent answers to those who have its token, or the token for readers. It stays in this tab until the tab is closed." }),
    // Password stores of browsers ask for a name.
    make("input", { autocomplete: "username", value: "klineagent", hidden: true }),
    make("label", { for: "token", textContent: "Token" }), field, wrong,
    make("button", { type: "submit", textContent: "Log in" }),
  );
  dialog.append(form);
  // There is nothing behind it to go back to.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  // Browsers close it all the same when Escape is pressed again.
  let isWanted = false;
  dialog.addEventListener("close", () => {
    if (isWanted && !dialog.open) dialog.showModal();
  });
  logout.addEventListener("click", () => {
    token.forget();
    location.reload();
  });
  onLocked((wasWrong) => new Promise((resolve) => {
    token.forget();
    wrong.textContent = wasWrong ? "That token is wrong." : "";
    field.value = "";
    form.onsubmit = (event) => {
      // Headers take no others: a request with them would look like an agent that is away.
      if (!/^[\x20-\x7e]+$/.test(field.value.trim())) {
        event.preventDefault();
        wrong.textContent = "A token has plain letters, digits and signs only.";
        return;
      }
      isWanted = false;
      token.keep(field.value.trim());
      resolve();
    };
    page.locked();
    isWanted = true;
    dialog.showModal();
  }));
  return {
    overview: () => (logout.hidden = !token.get()),
  };
}
