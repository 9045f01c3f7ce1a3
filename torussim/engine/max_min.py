"""Stub (to be replaced): slow full solves."""
import numpy as np
from types import SimpleNamespace
INF=float("inf")
def made(routes, bandwidth, efficiency, slots=1024):
    bw=np.array(bandwidth,float)
    one=np.zeros(1,[("now",float),("flows",np.int64),("solves",np.int64)])
    flows=np.zeros(200000,[("path",np.int64),("run",np.int64)])
    return SimpleNamespace(one=one,flows=flows,ended=np.zeros(200000,np.int64),d={},routes=routes,bw=bw,eff=efficiency,dirty=[False],nxt=[INF],free=list(range(199999,-1,-1)))
def grown(net): raise 1/0
def start(net,path,size,run):
    now=net.one[0]["now"]; f=net.free.pop(); a,b=net.routes.first[path],net.routes.first[path+1]
    net.flows[f]["path"]=path; net.flows[f]["run"]=run
    L=net.routes.link[a:b].tolist(); S=net.routes.share[a:b].tolist()
    N=[1]*len(L) if net.routes.number is None else net.routes.number[a:b].tolist()
    net.d[f]=dict(L=L,S=S,N=N,left=float(size),began=now,rate=0.0,end=now if not L or size<=0 else INF)
    net.one[0]["flows"]+=1; net.dirty[0]=True
    return True
def settle(net):
    if not net.dirty[0]: return
    net.dirty[0]=False; now=net.one[0]["now"]; net.one[0]["solves"]+=1
    act=[f for f in net.d.values() if f["L"] and f["left"]>0]
    cnt={}; 
    for f in act:
        for l,n in zip(f["L"],f["N"]): cnt[l]=cnt.get(l,0)+n
    left={l:net.bw[l]*(net.eff if n>1 else 1.0) for l,n in cnt.items()}
    un=list(act); new={}
    while un:
        w={}
        for f in un:
            for l,s in zip(f["L"],f["S"]): w[l]=w.get(l,0)+s
        low=min(left[l]/w[l] for l in w)
        full={l for l in w if left[l]/w[l]<=low*(1+1e-13)}
        rest=[]
        for f in un:
            if any(l in full for l in f["L"]):
                new[id(f)]=low
                for l,s in zip(f["L"],f["S"]): left[l]-=s*low
            else: rest.append(f)
        un=rest
    for f in act:
        r=new[id(f)]
        if r!=f["rate"]:
            f["left"]=max(0.0,f["left"]-f["rate"]*(now-f.get("since",now))); f["since"]=now; f["rate"]=r
            if f["end"]>now: f["end"]=now+f["left"]/r
def next_end(net):
    settle(net)
    return max(net.one[0]["now"],min((f["end"] for f in net.d.values()),default=INF)) if net.d else INF
def advance(net):
    t=next_end(net); net.one[0]["now"]=t
    es=sorted(net.d.items(),key=lambda x:x[1]["end"]); first=es[0][1]["end"]; early=INF; out=[]
    for f,x in es:
        if x["end"]>first and x["end"]>first+1e-12*(first-min(early,x["began"]))+4*np.spacing(first): break
        early=min(early,x["began"]); out.append(f)
    for f in out: del net.d[f]; net.free.append(f)
    out.sort(key=lambda f:net.flows[f]["path"])
    net.ended[:len(out)]=out; net.dirty[0]=True
    return len(out)
def go(net,t): net.one[0]["now"]=t
def set_bandwidth(net,link,v): net.bw[link]=v; net.dirty[0]=True
def under_way(net):
    settle(net)
    fs=sorted((net.flows[f]["path"],x["end"]) for f,x in net.d.items())
    return np.array([p for p,_ in fs],int),np.array([e for _,e in fs],float)
def shift(net,clock,flows):
    now=net.one[0]["now"]; net.one[0]["now"]=clock
    order=sorted(net.d,key=lambda f:(net.flows[f]["path"],net.d[f]["end"]))
    for f,by in zip(order,flows):
        x=net.d[f]; x["end"]+=by; x["began"]+=by; x["since"]=clock; x["left"]=(x["end"]-clock)*x["rate"]
