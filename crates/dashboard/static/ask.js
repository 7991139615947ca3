"use strict";
// What a person has the process do: asked again in a dialog, sent, and answered in words.

{
  const dialog = document.getElementById("confirm");

  // Whether the person means it. The dialog gives the focus back to what opened it.
  const confirmed = (question) => new Promise((resolve) => {
    dialog.querySelector("#question").textContent = question;
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
  dialog.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => dialog.close(button.value)));

  const say = (place, text, isTrouble) => {
    place.textContent = text;
    place.classList.toggle("problem", isTrouble);
  };

  // Sends it if that is confirmed, and shows the answer; null if it was not sent.
  const send = async (question, address, body, place) => {
    if (!await confirmed(question)) return null;
    try {
      const answer = await fetch(address, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      say(place, await answer.text(), !answer.ok);
      return answer;
    } catch {
      say(place, "The process does not answer.", true);
      return null;
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-command]");
    if (!button) return;
    const { group, command, question } = button.dataset;
    const place = document.getElementById("asked");
    const card = button.closest("[data-card]");
    if (!await send(question, "/pipeline/command", { group, command }, place)) return;
    // The button will be another one.
    place.focus();
    await load(card);
  });

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-send]");
    if (!form) return;
    event.preventDefault();
    const key = form.dataset.send;
    const question = `Send ${key} again with this payload? That is done once.`;
    const place = form.parentElement.querySelector("[role=status]");
    const body = { key, payload: form.elements.payload.value };
    const answer = await send(question, "/messages/send", body, place);
    if (answer?.ok) form.remove();
  });
}
