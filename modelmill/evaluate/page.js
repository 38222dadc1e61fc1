// Shows what a mark of a picture tells, at once and on touch too; without it the browser shows the same, later.
(() => {
  const tip = document.getElementById("tip");
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentElement;
    mark.dataset.tip = title.textContent;
    title.remove();
  }
  const show = (event) => {
    const mark = event.target.closest && event.target.closest("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const width = Math.min(tip.offsetWidth, innerWidth - 16);
    tip.style.left = Math.max(8, Math.min(event.clientX - width / 2, innerWidth - width - 8)) + "px";
    tip.style.top = (event.clientY > 70 ? event.clientY - tip.offsetHeight - 14 : event.clientY + 18) + "px";
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
})();
