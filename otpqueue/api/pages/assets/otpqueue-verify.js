// <otpqueue-verify src="URL of a verification page">: embeds the page. It has no dependencies.
//
// Events: "verified" with {token, state} in `detail`, which the site's back end redeems; "cancelled" when the
// person leaves the page.

const LOWEST = 320;

class OtpqueueVerify extends HTMLElement {
  static observedAttributes = ["src"];

  #frame = null;
  #shown = null;

  #receive = (event) => {
    if (!this.#frame || event.source !== this.#frame.contentWindow) return;
    if (event.origin !== new URL(this.#frame.src).origin) return;
    const { type, token, state, height } = event.data ?? {};
    if (type === "otpqueue:height") {
      this.#frame.style.height = `${Math.max(LOWEST, Math.min(2000, Number(height) || 0))}px`;
    } else if (type === "otpqueue:verified" && token) {
      this.#dispatch("verified", { token, state });
    } else if (type === "otpqueue:cancelled") {
      this.#dispatch("cancelled", {});
    }
  };

  connectedCallback() {
    window.addEventListener("message", this.#receive);
    this.#show();
  }

  disconnectedCallback() {
    window.removeEventListener("message", this.#receive);
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#show();
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }

  #show() {
    const src = this.getAttribute("src");
    // A link belongs to the first browser context that opens it: the same one must not be opened twice.
    if (src === this.#shown && this.#frame?.isConnected) return;
    this.#shown = src;
    this.#frame?.remove();
    this.#frame = null;
    if (!src) return;
    const url = new URL(src, document.baseURI);
    if (url.protocol !== "https:" && url.protocol !== "http:") return;
    url.searchParams.set("embed", "1");
    const frame = document.createElement("iframe");
    frame.src = url.href;
    frame.title = this.getAttribute("title") || "Phone number verification";
    // WebOTP in a page of another origin needs this permission.
    frame.allow = "otp-credentials";
    frame.style.cssText = `display: block; width: 100%; height: ${LOWEST}px; border: 0;`;
    this.#frame = frame;
    this.append(frame);
  }
}

customElements.define("otpqueue-verify", OtpqueueVerify);
