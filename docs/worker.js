// Browsers start no worker from file://. There, the search of the site runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      this.scope = this.frame.contentWindow;
      this.scope.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      const script = this.scope.document.createElement("script");
      script.src = new URL(url, location.href).href;
      this.ready = new Promise((done) => { script.onload = done; });
      script.onerror = (event) => this.onerror?.(event);
      this.scope.document.head.append(script);
    }

    postMessage(data) {
      this.ready.then(() => this.scope.onmessage({ data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
